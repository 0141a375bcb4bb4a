"""What is measured of every estimate: the figures, their units, and which way is better."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

from timbre import packages
from timbre.audio import SAMPLE_RATE, metrics
from timbre.evaluate import dnsmos, full_band, learned_mos, speaker
from timbre.evaluate.intervals import Direction
from timbre.evaluate.phones import phone_error
from timbre.evaluate.sibilants import sibilant_error

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


class Metric(NamedTuple):
    """What measures some figures at once, of (estimate, clean, counted_hz).

    Attributes:
        names: of its figures.
        packages: optional ones that it needs.
        title: what messages call it.
        reference: whether it needs the clean side.
    """

    names: tuple[str, ...]
    measure: Callable[[Tensor, Tensor, float], Sequence[float]]
    packages: tuple[str, ...] = ()
    title: str = ""
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
    "zimtohrli": Figure("MOS", "higher", "Zimtohrli's opinion, up to 24 kHz"),
    "visqol": Figure("MOS", "higher", "ViSQOL's opinion, up to 24 kHz"),
    "sibilant_error": Figure("dB", "lower", "level of s and sh, 5-12 kHz, wrong by so much"),
    "phone_error": Figure("share", "lower", "phones that a recogniser hears otherwise than of clean"),
    "distillmos": Figure("MOS", "higher", "distillmos, without reference, up to 8 kHz"),
    "dnsmos_sig": Figure("MOS", "higher", "DNSMOS P.835 of the speech, without reference, up to 8 kHz"),
    "dnsmos_bak": Figure("MOS", "higher", "DNSMOS P.835 of the background"),
    "dnsmos_ovrl": Figure("MOS", "higher", "DNSMOS P.835 of all"),
    "speaker_similarity": Figure("cosine", "higher", "likeness of the voice to a speaker encoder"),
}  # fmt: skip


METRICS = (
    Metric(
        ("pesq",), lambda x, clean, _: [float(metrics.pesq_wideband(x, clean))], ("pesq",), "PESQ"
    ),
    Metric(
        ("stoi", "estoi"),
        lambda x, clean, _: [float(metrics.stoi(x, clean)), float(metrics.estoi(x, clean))],
        ("pystoi",),
        "STOI",
    ),
    Metric(("si_sdr",), lambda x, clean, _: [float(metrics.si_sdr(x, clean))]),
    Metric(
        (
            "lsd_0_8k",
            "lsd_8_24k",
            "over_suppressed",
            *(f"over_suppressed_{name}" for name in BANDS),
        ),
        lambda *sides: _spectral(*sides),
    ),
    Metric(("mel_distance",), lambda *sides: [float(metrics.mel_distance(*sides))]),
    Metric(
        ("leak_db", "leak_pauses_db"),
        lambda *sides: [float(leak) for leak in metrics.leak_db(*sides)],
    ),
    Metric(
        ("zimtohrli",),
        lambda x, clean, _: [full_band.zimtohrli(x, clean)],
        ("zimtohrli",),
        "Zimtohrli",
    ),
    Metric(("visqol",), lambda x, clean, _: [full_band.visqol(x, clean)], ("visqol",), "ViSQOL"),
    Metric(("sibilant_error",), lambda *sides: [sibilant_error(*sides)]),
    Metric(
        ("phone_error",),
        lambda x, clean, _: [phone_error(x, clean)],
        ("pocketsphinx",),
        "phone error",
    ),
    Metric(
        ("distillmos",),
        lambda x, *_: [learned_mos.opinion(x)],
        ("distillmos",),
        "distillmos",
        reference=False,
    ),
    Metric(
        ("dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"),
        lambda x, *_: dnsmos.opinion(x),
        dnsmos.PACKAGES,
        "DNSMOS",
        reference=False,
    ),
    Metric(
        ("speaker_similarity",),
        lambda x, clean, _: [speaker.similarity(x, clean)],
        ("resemblyzer",),
        "speaker similarity",
    ),
)
# Judges that say nothing of how far clean speech is from what it was.
OPINIONS = ("dnsmos", "stoi", "leak", "distillmos", "phone_error")
# Of clean speech that went in: how far it is from what it was.
HARM_FIGURES = tuple(name for name in FIGURES if not name.startswith(OPINIONS))


def gaps() -> dict[str, str]:
    """Return the figures that cannot be measured here, each with what it needs."""
    return {
        name: message
        for metric in METRICS
        for package in metric.packages
        if (message := packages.missing(package, metric.title))
        for name in metric.names
    }


def measure(
    estimate: Tensor, clean: Tensor, counted_hz: float, names: Sequence[str]
) -> tuple[dict[str, float], list[str]]:
    """Return some figures of ``(samples,)`` by name, NaN where there is none, and what went wrong.

    A meter that fails costs its own figures and no others.
    """
    figures, troubles = dict.fromkeys(names, math.nan), []
    if not estimate.isfinite().all():
        return figures, ["is not finite"]
    for metric in _metrics_for(names):
        try:
            values = metric.measure(estimate, clean, counted_hz)
        except Exception as error:  # C code and networks of others may raise anything
            troubles.append(f"{', '.join(metric.names)}: {type(error).__name__}: {error}")
            continue
        figures |= {n: v for n, v in zip(metric.names, values, strict=True) if n in figures}
    return figures, troubles


def measure_alone(wave: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Return the figures that need no reference, of a reference: how high they go."""
    figures: dict[str, float] = {}
    for metric in _metrics_for(names):
        if not metric.reference:
            values = zip(metric.names, metric.measure(wave, wave, TOP_HZ), strict=True)
            figures |= {name: value for name, value in values if name in names}
    return figures


def _metrics_for(names: Sequence[str]) -> Iterator[Metric]:
    return (metric for metric in METRICS if not set(names).isdisjoint(metric.names))


def _spectral(estimate: Tensor, clean: Tensor, counted_hz: float) -> list[float]:
    comparison = metrics.compare(estimate, clean, counted_hz)
    distances = [
        metrics.distance_in(comparison, 0, 8000),
        metrics.distance_in(comparison, 8000, TOP_HZ),
    ]
    distances += [
        metrics.lost_share_in(comparison, *band) for band in ((0, TOP_HZ), *BANDS.values())
    ]
    return [float(value) for value in distances]
