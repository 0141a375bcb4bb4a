"""The random choices of a pair beyond loudness, noise recordings and room.

They come from a stream of their own for each pair, and each takes the same numbers whatever the
shares are: a share that is raised changes only the pairs that it adds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shard_tools.mix.colour import CORNERS_HZ, PLAIN, Colour
from shard_tools.mix.made_noise import HISS, KINDS, MadeNoise
from shard_tools.mix.variety import TargetConfig, VarietyConfig

MOST_SEED = 2**32
# When another noise takes over, in shares of the piece.
CHANGE_BETWEEN = (0.2, 0.8)
# Tells the stream of a pair's variety from other streams of the shard's seed.
STREAM = 1


class Gap(NamedTuple):
    """A silence in the speech; ``start`` is a share of the piece."""

    start: float
    seconds: float


class SpeechDraw(NamedTuple):
    """What is done to the speech: ``pause_db`` to the target's pauses, and perhaps the input's."""

    gap: Gap | None = None
    colour: Colour = PLAIN
    pause_db: float | None = None
    quiet_input: bool = False


class NoiseDraw(NamedTuple):
    """One recorded noise of a pair; ``start`` is a share of the recording's length."""

    number: int
    start: float
    gain_db: float
    speed: float = 1.0
    backwards: bool = False


class Change(NamedTuple):
    """Another noise that takes over at ``start``, a share of the piece; one of the two is None."""

    start: float
    noise_draw: NoiseDraw | None
    made_noise: MadeNoise | None


class Hiss(NamedTuple):
    """Hiss under the speech, beside the noise of the pair."""

    noise: MadeNoise
    below_db: float


class Variety(NamedTuple):
    """What makes a pair differ from its recordings; by default nothing does."""

    speech: SpeechDraw = SpeechDraw()
    made_noise: tuple[MadeNoise, ...] = ()
    noise_colour: Colour = PLAIN
    change: Change | None = None
    hiss: Hiss | None = None


def describe(variety: Variety) -> dict[str, float]:
    """Return what of a pair's variety is worth knowing of it later; nothing where there is none."""
    speech, change, hiss = variety.speech, variety.change, variety.hiss
    values = {
        "pause_db": speech.pause_db,
        "quiet_input": float(speech.quiet_input) or None,
        "gap_seconds": speech.gap.seconds if speech.gap else None,
        "low_pass_hz": speech.colour.low_pass_hz,
        "equaliser": float(bool(speech.colour.gains_db)) or None,
        "made_noises": float(len(variety.made_noise)) or None,
        "noise_low_pass_hz": variety.noise_colour.low_pass_hz,
        "noise_change_share": change.start if change else None,
        "hiss_below_db": hiss.below_db if hiss else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def draw_speech(
    rng: np.random.Generator, variety: VarietyConfig, target: TargetConfig
) -> SpeechDraw:
    """Return what is done to the speech of a pair."""
    chance = rng.random(3)
    gap = Gap(round(float(rng.random()), 6), _between(rng, variety.gap_seconds))
    colour = _draw_colour(
        rng, variety, variety.speech_low_pass_share, variety.speech_equaliser_share
    )
    return SpeechDraw(
        gap if chance[0] < variety.gap_share else None,
        colour,
        target.pause_db,
        target.pause_db is not None and bool(chance[1] < target.quiet_input_share),
    )


def draw_noises(
    rng: np.random.Generator, noises: Sequence[NoiseDraw], variety: VarietyConfig
) -> tuple[tuple[NoiseDraw, ...], tuple[MadeNoise, ...]]:
    """Return the recorded noises of a pair, altered, and the made-up ones that replace the others."""
    recordings, inventions = [], []
    for noise in noises:
        invention = _draw_made_noise(rng, variety, noise.gain_db)
        recording = _alter_noise(rng, noise, variety)
        if invention is None:
            recordings.append(recording)
        else:
            inventions.append(invention)
    return tuple(recordings), tuple(inventions)


def draw_change(
    rng: np.random.Generator, pool: Sequence[int], variety: VarietyConfig
) -> Change | None:
    """Return the noise that takes over in the midst of a pair, if one does."""
    chance, pick, start = rng.random(3)
    gain_db = _between(rng, variety.noise_change_db)
    place = round(float(rng.uniform(*CHANGE_BETWEEN)), 6)
    invention = _draw_made_noise(rng, variety, gain_db)
    recording = _alter_noise(
        rng, NoiseDraw(pool[int(pick * len(pool))], float(start), gain_db), variety
    )
    if chance >= variety.noise_change_share:
        return None
    return Change(place, None if invention else recording, invention)


def draw_noise_colour(rng: np.random.Generator, variety: VarietyConfig) -> Colour:
    """Return the colour of all noise of a pair."""
    return _draw_colour(rng, variety, variety.noise_low_pass_share, variety.noise_equaliser_share)


def draw_hiss(rng: np.random.Generator, variety: VarietyConfig) -> Hiss | None:
    """Return the hiss under the speech of a pair, if there is any."""
    chance = rng.random()
    below_db = _between(rng, variety.hiss_below_db)
    noise = MadeNoise(HISS, int(rng.integers(MOST_SEED)))
    return Hiss(noise, below_db) if chance < variety.hiss_share else None


def _draw_made_noise(
    rng: np.random.Generator, variety: VarietyConfig, gain_db: float
) -> MadeNoise | None:
    chance, kind, seed = rng.random(), KINDS[int(rng.integers(len(KINDS)))], rng.integers(MOST_SEED)
    return MadeNoise(kind, int(seed), gain_db) if chance < variety.made_noise_share else None


def _alter_noise(rng: np.random.Generator, noise: NoiseDraw, variety: VarietyConfig) -> NoiseDraw:
    """Return a recorded noise faster or slower, or backwards."""
    chance = rng.random(2)
    low, high = np.log(variety.noise_speeds)
    speed = round(float(np.exp(rng.uniform(low, high))), 2)
    return noise._replace(
        speed=speed if chance[0] < variety.noise_speed_share else 1.0,
        backwards=bool(chance[1] < variety.noise_backwards_share),
    )


def _draw_colour(
    rng: np.random.Generator, variety: VarietyConfig, low_pass_share: float, equaliser_share: float
) -> Colour:
    chance, pick = rng.random(2), rng.random()
    gains = rng.uniform(-variety.equaliser_db, variety.equaliser_db, len(CORNERS_HZ))
    return Colour(
        variety.low_pass_hz[int(pick * len(variety.low_pass_hz))]
        if chance[0] < low_pass_share
        else None,
        tuple(np.round(gains, 3).tolist()) if chance[1] < equaliser_share else (),
    )


def _between(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    return round(float(rng.uniform(*ends)), 3)
