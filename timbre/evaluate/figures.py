"""What is measured of every estimate: the figures, their units, and which way is better."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from timbre.audio import SAMPLE_RATE, metrics
from timbre.evaluate import dnsmos, speaker
from timbre.evaluate.intervals import Direction

TOP_HZ = SAMPLE_RATE // 2
# Bands of the over-suppressed share, in Hz.
BANDS = {
    "0_4k": (0, 4000),
    "4_8k": (4000, 8000),
    "8_16k": (8000, 16_000),
    "16_24k": (16_000, TOP_HZ),
}


class Figure(NamedTuple):
    """The unit of a figure, what is better, and what it means in a few words."""

    unit: str
    better: Direction
    meaning: str


class Meter(NamedTuple):
    """What measures some figures at once, of (estimate, clean, counted_hz).

    ``gap`` tells which package it lacks, or None; ``reference`` is whether it needs the clean side.
    """

    names: tuple[str, ...]
    measure: Callable[[Tensor, Tensor, float], Sequence[float]]
    gap: Callable[[], str | None]
    reference: bool = True


FIGURES = {
    "pesq": Figure("MOS", "higher", "wide-band PESQ, up to 8 kHz"),
    "stoi": Figure("share", "higher", "intelligibility, up to 5 kHz"),
    "estoi": Figure("share", "higher", "extended intelligibility, up to 5 kHz"),
    "si_sdr": Figure("dB", "higher", "scale-invariant signal to distortion ratio"),
    "lsd_0_8k": Figure("dB", "lower", "log-spectral distance on bins that hold the voice, 0-8 kHz"),
    "lsd_8_24k": Figure("dB", "lower", "the same, 8-24 kHz"),
    "mel_distance": Figure("dB", "lower", "mean difference of log-mel spectra, all bands"),
    "over_suppressed": Figure("share", "lower", "bins of the voice that lost more than 6 dB"),
    **{
        f"over_suppressed_{name}": Figure("share", "lower", f"the same, {low // 1000}-{high // 1000} kHz")
        for name, (low, high) in BANDS.items()
    },
    "leak_db": Figure("dB", "lower", "sound added where the target is silent, against all of it"),
    "leak_pauses_db": Figure("dB", "lower", "sound added in the target's pauses, against its speech"),
    "dnsmos_sig": Figure("MOS", "higher", "DNSMOS P.835 of the speech, without reference, up to 8 kHz"),
    "dnsmos_bak": Figure("MOS", "higher", "DNSMOS P.835 of the background"),
    "dnsmos_ovrl": Figure("MOS", "higher", "DNSMOS P.835 of all"),
    "speaker_similarity": Figure("cosine", "higher", "likeness of the voice to a speaker encoder"),
}  # fmt: skip


def _spectral(estimate: Tensor, clean: Tensor, counted_hz: float) -> list[float]:
    compared = metrics.compare(estimate, clean, counted_hz)
    found = [metrics.distance_in(compared, 0, 8000), metrics.distance_in(compared, 8000, TOP_HZ)]
    found += [metrics.lost_share_in(compared, *band) for band in ((0, TOP_HZ), *BANDS.values())]
    return [float(value) for value in found]


def _no_gap() -> None:
    return None


def _stoi_gap() -> str | None:
    return _told(metrics.stoi)


def _pesq_gap() -> str | None:
    return _told(metrics.pesq_wideband)


def _told(metric: Callable[[Tensor, Tensor], Tensor]) -> str | None:
    try:
        metric(torch.zeros(1), torch.zeros(1))
    except metrics.MetricError as error:
        return str(error)
    return None


METERS = (
    Meter(("pesq",), lambda x, clean, _: [float(metrics.pesq_wideband(x, clean))], _pesq_gap),
    Meter(
        ("stoi", "estoi"),
        lambda x, clean, _: [float(metrics.stoi(x, clean)), float(metrics.estoi(x, clean))],
        _stoi_gap,
    ),
    Meter(("si_sdr",), lambda x, clean, _: [float(metrics.si_sdr(x, clean))], _no_gap),
    Meter(
        (
            "lsd_0_8k",
            "lsd_8_24k",
            "over_suppressed",
            *(f"over_suppressed_{name}" for name in BANDS),
        ),
        _spectral,
        _no_gap,
    ),
    Meter(("mel_distance",), lambda *sides: [float(metrics.mel_distance(*sides))], _no_gap),
    Meter(
        ("leak_db", "leak_pauses_db"),
        lambda *sides: [float(leak) for leak in metrics.leak_db(*sides)],
        _no_gap,
    ),
    Meter(
        ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"),
        lambda x, *_: dnsmos.opinion(x),
        dnsmos.gap,
        reference=False,
    ),
    Meter(
        ("speaker_similarity",),
        lambda x, clean, _: [speaker.similarity(x, clean)],
        speaker.gap,
    ),
)
# Of clean speech that went in: how far it is from what it was.
HARM = tuple(name for name in FIGURES if not name.startswith(("dnsmos", "stoi", "leak")))


def gaps() -> dict[str, str]:
    """Return the figures that cannot be measured here, each with what it needs."""
    return {name: gap for meter in METERS if (gap := meter.gap()) for name in meter.names}


def measure(
    estimate: Tensor, clean: Tensor, counted_hz: float, names: Sequence[str]
) -> tuple[dict[str, float], list[str]]:
    """Return some figures of ``(samples,)`` by name, NaN where there is none, and what went wrong.

    A meter that fails costs its own figures and no others.
    """
    found, troubles = dict.fromkeys(names, math.nan), []
    if not estimate.isfinite().all():
        return found, ["is not finite"]
    for meter in _wanted(names):
        try:
            values = meter.measure(estimate, clean, counted_hz)
        except Exception as error:  # C code and networks of others: whatever it is, it is told
            troubles.append(f"{', '.join(meter.names)}: {type(error).__name__}: {error}")
            continue
        found |= {n: v for n, v in zip(meter.names, values, strict=True) if n in found}
    return found, troubles


def measure_alone(wave: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return the figures that need no reference, of a reference: how high they go."""
    found: dict[str, float] = {}
    for meter in _wanted(names):
        if not meter.reference:
            values = zip(meter.names, meter.measure(wave, wave, TOP_HZ), strict=True)
            found |= {name: value for name, value in values if name in names}
    return found


def _wanted(names: Sequence[str]) -> Iterator[Meter]:
    return (meter for meter in METERS if not set(names).isdisjoint(meter.names))
