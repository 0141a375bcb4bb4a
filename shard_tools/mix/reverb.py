"""Rooms: speech through an impulse response, in time with the direct path."""

import numpy as np
from pydantic.dataclasses import dataclass

from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import fast_length
from timbre.config import STRICT, Fraction, Natural, NonNegative


@dataclass(config=STRICT)
class ReverbConfig:
    """How many pairs are reverberant, and how much of the room the target keeps."""

    share: Fraction = 0.15
    # Rooms that shard_tools.mix.rooms simulates, beside the measured ones of `rir`, and the share of
    # reverberant pairs that are in one of them.
    simulated_rooms: Natural = 0
    simulated_share: Fraction = 0.5
    # The target keeps the room's response up to this long after the direct path; with none of it a
    # hall is 10 dB louder than its target, and half of such pairs cannot be aligned.
    target_early_seconds: NonNegative = 0.05


def prepare(rir: Wave) -> tuple[Wave, int]:
    """Return a response scaled to a direct path of 1, and the sample at which that path arrives.

    The strongest arrival counts as the direct path. In 10 of 35 responses at hand something
    weaker comes 1 to 30 ms before, but the first arrival by ISO 3382's threshold is often none at
    all, and speech lies no better on it.
    """
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
    start, stop = (int(np.argmax(energy <= energy[0] * 10 ** (db / 10))) for db in (-5, -25))
    return 3 * (stop - start) / SAMPLE_RATE if stop > start else None


def _convolve(speech: Wave, rir: Wave, direct: int) -> Wave:
    length = fast_length(len(speech) + len(rir) - 1)
    spectrum = np.fft.rfft(speech.astype(np.float64), length)
    spectrum *= np.fft.rfft(rir.astype(np.float64), length)
    full = np.fft.irfft(spectrum, length)
    wave: Wave = full[direct : direct + len(speech)].astype(np.float32)
    return wave
