"""What is measured of a probe: residue where nobody speaks, quality and pauses where somebody does."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from timbre import packages
from timbre.audio import LEVEL_FRAME, SILENCE_DB, SPEECH_RANGE_DB, metrics
from timbre.evaluate.intervals import Direction

BURST_FRAMES = 5
# Frames so near to speech are no pauses: a voice rings on.
GUARD_FRAMES = 5


class StressFigure(NamedTuple):
    """A figure of a probe, and from where on it counts as harm.

    Attributes:
        better: ``zero`` is best for a figure that may err to both sides.
        bound: how much worse than DeepFilterNet3's it may be.
        floor: a lower value is no harm whatever DeepFilterNet3's is.
    """

    unit: str
    better: Direction | str
    bound: float
    meaning: str
    floor: float = -math.inf


STRESS_FIGURES = {
    "residue_db": StressFigure("dBFS", "lower", 3.0, "level of what is left of noise alone", -80.0),
    "burst_db": StressFigure("dBFS", "lower", 6.0, "the loudest tenth of a second of it", -70.0),
    "pauses_db": StressFigure("dB", "lower", 3.0, "level in pauses, against the speech", -60.0),
    "gain_db": StressFigure("dB", "zero", 1.0, "gain of the speech"),
    "si_sdr": StressFigure("dB", "higher", 1.0, "scale-invariant signal to distortion ratio"),
    "pesq": StressFigure("MOS", "higher", 0.1, "wide-band PESQ, up to 8 kHz"),
}


def measure(estimate: Tensor, clean: Tensor) -> tuple[dict[str, float], list[str]]:
    """Return the figures of ``(samples,)`` that apply, and what went wrong.

    Where nobody speaks they are those of the residue.
    """
    names = ("residue_db", "burst_db") if not clean.any() else tuple(_measures(estimate, clean))
    if not estimate.isfinite().all():
        return dict.fromkeys(names, math.nan), ["is not finite"]
    if not clean.any():
        return _residue(estimate), []
    return {name: float(value) for name, value in _measures(estimate, clean).items()}, []


def _residue(estimate: Tensor) -> dict[str, float]:
    power = _frame_power(estimate)
    bursts = power.unfold(0, BURST_FRAMES, 1).mean(dim=1)
    return {"residue_db": _decibel(power.mean()), "burst_db": _decibel(bursts.max())}


def _measures(estimate: Tensor, clean: Tensor) -> dict[str, float]:
    figures = {
        "pauses_db": _pauses_db(estimate, clean),
        "gain_db": _gain_db(estimate, clean),
        "si_sdr": float(metrics.si_sdr(estimate, clean)),
    }
    if packages.missing("pesq") is None:
        figures["pesq"] = float(metrics.pesq_wideband(estimate, clean))
    return figures


def _pauses_db(estimate: Tensor, clean: Tensor) -> float:
    """Return the level in frames without speech, against that of the speech; NaN without any."""
    power = _frame_power(clean)
    speech = power > power.max() * 10 ** (-SPEECH_RANGE_DB / 10)
    width = 2 * GUARD_FRAMES + 1
    near = torch.nn.functional.max_pool1d(speech[None].float(), width, 1, GUARD_FRAMES)[0] > 0
    if near.all():
        return math.nan
    return _decibel(_frame_power(estimate)[~near].mean() / power[speech].mean())


def _gain_db(estimate: Tensor, clean: Tensor) -> float:
    """Return how loud the clean speech is in the estimate, whatever else is in it."""
    projection = (estimate.double() @ clean.double()) / clean.double().square().sum()
    return 2 * _decibel(projection.abs())


def _frame_power(wave: Tensor) -> Tensor:
    """Return the mean power of whole frames of 20 ms, ``(frames,)``."""
    frames = wave[: len(wave) // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    return frames.double().square().mean(dim=1)


def _decibel(power: Tensor) -> float:
    return max(10 * math.log10(max(float(power), 1e-30)), SILENCE_DB)
