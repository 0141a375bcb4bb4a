"""Rooms: speech through an impulse response, kept in time with the direct path."""

import numpy as np
import torch
import torchaudio.functional as F
from pydantic.dataclasses import dataclass

from timbre.audio import SAMPLE_RATE, Wave
from timbre.config import STRICT, NonNegative, Share


@dataclass(config=STRICT)
class ReverbConfig:
    """How many pairs are reverberant, and how much of the room the target keeps."""

    share: Share = 0.15
    # The target keeps the room's response up to this long after the direct path; with none of it a
    # hall is 10 dB louder than its target, and half of such pairs cannot be aligned.
    target_early_seconds: NonNegative = 0.05


def prepare(rir: Wave) -> tuple[Wave, int]:
    """Return a response scaled to a direct path of 1, and the sample at which that path arrives."""
    direct = int(np.argmax(np.abs(rir)))
    scaled: Wave = rir / rir[direct]
    return scaled, direct


def reverberate(speech: Wave, rir: Wave, early: int) -> tuple[Wave, Wave]:
    """Return (reverberant, target), both ``(samples,)`` and in time with ``speech``.

    ``rir`` is any response; the reverberant side is the speech through all of it, moved so that
    the direct path has no delay. The target is the dry speech where ``early`` is 0, else the
    speech through the first ``early`` samples after the direct path.
    """
    scaled, direct = prepare(rir)
    reverberant = _convolve(speech, scaled, direct)
    if early == 0:
        return reverberant, speech
    return reverberant, _convolve(speech, scaled[: direct + early], direct)


def decay_seconds(rir: Wave) -> float | None:
    """Return RT60 by Schroeder's backward integral: the -5 to -25 dB slope, times three.

    None where the response ends before it has decayed by 25 dB.
    """
    energy = np.cumsum(np.square(rir[::-1], dtype=np.float64))[::-1]
    if energy[0] <= 0:
        return None
    level = 10 * np.log10(np.maximum(energy / energy[0], 1e-20))
    start, stop = int(np.argmax(level <= -5)), int(np.argmax(level <= -25))
    return 3 * (stop - start) / SAMPLE_RATE if stop > start else None


def _convolve(speech: Wave, rir: Wave, direct: int) -> Wave:
    full = F.fftconvolve(torch.from_numpy(speech), torch.from_numpy(np.ascontiguousarray(rir)))
    wave: Wave = full[direct : direct + len(speech)].numpy()
    return wave
