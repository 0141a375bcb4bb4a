"""Speech and noise at a given signal-to-noise ratio and level."""

from typing import NamedTuple

import numpy as np

from timbre import audio
from timbre.audio import Wave

PEAK = 0.99


class Request(NamedTuple):
    """What is asked of a mixture, measured from sample ``lead_in`` on.

    ``snr_db`` is 10 log10 of the energy of speech over that of noise; ``level_db`` is the level in
    dBFS of the frames in which the target is active.
    """

    snr_db: float
    level_db: float
    lead_in: int = 0


class Mixture(NamedTuple):
    """Both sides ``(samples,)`` at their final level, and what was done to reach it."""

    clean: Wave
    noisy: Wave
    gain_db: float
    snr_db: float


def loop(noise: Wave, start: int, samples: int) -> Wave:
    """Return ``samples`` of a recording from ``start``, going round at its end."""
    positions = (start + np.arange(samples)) % len(noise)
    wave: Wave = noise[positions]
    return wave


def mix(speech: Wave, target: Wave, noise: Wave, request: Request) -> Mixture | None:
    """Return the target, and speech plus noise, at the requested ratio and level.

    Both sides get one gain, lowered where a peak of the piece would clip. None where there is no
    speech or no noise to scale.

    Args:
        speech: ``(samples,)`` what is heard without the noise: reverberant, in a room.
        target: ``(samples,)`` what the network is to give back.
        noise: ``(samples,)``.
        request: the ratio and level, and where the piece begins.
    """
    piece = slice(request.lead_in, None)
    speech_db, noise_db = audio.level_db(speech[piece]), audio.level_db(noise[piece])
    target_db = audio.active_level_db(target[piece])
    if min(speech_db, noise_db, target_db) <= audio.SILENCE_DB:
        return None
    scaled = noise * np.float32(audio.gain(speech_db - request.snr_db - noise_db))
    noisy = speech + scaled
    peak = max(float(np.abs(noisy[piece]).max()), float(np.abs(target[piece]).max()))
    gain_db = min(request.level_db - target_db, 20 * float(np.log10(PEAK / peak)))
    gain = np.float32(audio.gain(gain_db))
    reached = speech_db - audio.level_db(scaled[piece])
    return Mixture(target * gain, noisy * gain, gain_db, reached)
