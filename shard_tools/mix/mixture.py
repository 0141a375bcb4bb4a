"""Speech and noise at a given signal-to-noise ratio and level; several noises in layers."""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from timbre import audio
from timbre.audio import Wave
from timbre.config import STRICT, Fraction

PEAK = 0.99
# Where a recording goes round, its end fades into its beginning: 20 ms, in samples, or a quarter of
# a recording that is shorter than four times that.
FADE = 960
# What every layer is brought to before its own gain.
LAYER_LEVEL_DB = -30.0
# What is quieter counts as silence: raised to the level of a noise, it would be 16-bit steps.
QUIETEST_DB = -80.0


@dataclass(config=STRICT)
class MixConfig:
    """How loud the speech is, how far above the noise, and what the noise is."""

    snr_db_low: float = 0.0
    snr_db_high: float = 20.0
    # Nearly clean input teaches the network to do no harm.
    near_clean_share: Fraction = 0.1
    near_clean_snr_db: float = 40.0
    # Such a pair's ratio lies between that and this; null: it is that.
    near_clean_snr_db_high: float | None = None
    # DeepFilterNet3 is at its best between -30 and -10 dBFS.
    level_db_low: float = -28.0
    level_db_high: Annotated[float, Field(le=0)] = -22.0
    # Pairs with two or three noises at once.
    several_noises_share: Fraction = 0.25
    # Pairs in which the first noise is a babble of other speakers of the split.
    babble_share: Fraction = 0.1

    def __post_init__(self) -> None:
        for low, high in [
            ("snr_db_low", "snr_db_high"),
            ("level_db_low", "level_db_high"),
            ("near_clean_snr_db", "near_clean_snr_db_high"),
        ]:
            most = getattr(self, high)
            if most is not None and getattr(self, low) > most:
                raise ValueError(f"{low} {getattr(self, low)} exceeds {high} {most}")


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


class Layer(NamedTuple):
    """A stretch of a recording ``(samples,)``, the sample it starts at, and its gain against others."""

    wave: Wave
    start: int
    gain_db: float


def loop(noise: Wave, start: int, samples: int) -> Wave:
    """Return ``samples`` of a recording from ``start``, going round at its end without a click.

    What lies inside the recording is the recording as it is. Where it goes round, the end and the
    beginning cross over at equal power, so that noise keeps its level.
    """
    start %= len(noise)
    if start + samples <= len(noise):
        return noise[start : start + samples].copy()
    fade = min(FADE, len(noise) // 4)
    ring = noise[: len(noise) - fade].copy()
    phase = (np.arange(fade) + 0.5) / max(fade, 1) * (np.pi / 2)
    rise, fall = np.sin(phase).astype(np.float32), np.cos(phase).astype(np.float32)
    ring[:fade] = noise[:fade] * rise + noise[len(ring) :] * fall
    wave: Wave = np.resize(np.roll(ring, -start), samples)
    head = noise[start:fade]
    wave[: len(head)] = head
    return wave


def start_that_sounds(
    stretch: Callable[[int], Wave], length: int, start: int, lead_in: int
) -> tuple[int, Wave]:
    """Return the first start from ``start`` on that gives a piece with sound in it, and what it gives.

    Pieces are tried one after the other, once through the recording; if all are silent, the start
    stays where it was.

    Args:
        stretch: returns what follows a start, ``(samples,)``, as :func:`loop` does.
        length: of the recording, in samples.
        start: where to begin.
        lead_in: samples before the piece; sound in them does not count.
    """
    first = stretch(start)
    step = len(first) - lead_in
    for after in range(0, length, step):
        place = (start + after) % length
        wave = stretch(place) if after else first
        if min(audio.level_db(wave), audio.level_db(wave[lead_in:])) > QUIETEST_DB:
            return place, wave
    return start, first


def layer(layers: Sequence[Layer], samples: int) -> Wave:
    """Return the sum ``(samples,)`` of recordings, each at its gain above a common level.

    All layers have one level before their gains. A silent layer adds nothing.
    """
    total = np.zeros(samples, np.float32)
    for wave, _, gain_db in layers:
        level_db = audio.level_db(wave)
        if level_db > QUIETEST_DB:
            total += wave * np.float32(audio.gain(LAYER_LEVEL_DB + gain_db - level_db))
    return total


def mix(speech: Wave, target: Wave, noise: Wave, request: Request) -> Mixture | None:
    """Return the target, and speech plus noise, at the requested ratio and level.

    Both sides get one gain, lowered where a peak of the piece would clip. None where there is no
    speech or no noise to scale.

    Args:
        speech: ``(samples,)`` of the noisy side without its noise: reverberant, in a room.
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
    snr_db = speech_db - audio.level_db(scaled[piece])
    return Mixture(target * gain, noisy * gain, gain_db, snr_db)
