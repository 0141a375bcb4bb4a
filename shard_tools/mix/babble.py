"""Babble: several people of the speech catalogue talking at once, as a noise."""

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from shard_tools.mix import mixture as mix
from timbre import audio
from timbre.audio import Wave

FEWEST_VOICES = 3
# How many talk at once where there are speakers enough.
USUAL_VOICES = (4, 8)
GAIN_RANGE_DB = 5.0
# The level of a voice's active frames before its gain.
VOICE_LEVEL_DB = -30.0


class Voice(NamedTuple):
    """A clip, by its position in the speech catalogue, and its gain against other voices."""

    clip: int
    gain_db: float


class Babble(NamedTuple):
    """Every random choice of one babble, and its length."""

    name: str
    voices: tuple[Voice, ...]
    samples: int


def draw_babbles(
    speakers: Sequence[str], count: int, seed: Sequence[int], samples: int
) -> list[Babble]:
    """Return ``count`` babbles, each of different speakers; none where there are fewer than three.

    A babble depends on its number, not on ``count``.

    Args:
        speakers: the owner of each clip that may be used.
        count: how many babbles.
        seed: what they are drawn from.
        samples: the length of each.
    """
    clips_of: dict[str, list[int]] = {}
    for clip, speaker in enumerate(speakers):
        clips_of.setdefault(speaker, []).append(clip)
    if len(clips_of) < FEWEST_VOICES:
        return []
    owners = sorted(clips_of)
    babbles = []
    for number in range(count):
        rng = np.random.default_rng([*seed, number])
        count_of_voices = int(rng.integers(USUAL_VOICES[0], USUAL_VOICES[1] + 1))
        speakers_of_it = rng.choice(len(owners), min(count_of_voices, len(owners)), replace=False)
        voices = tuple(
            Voice(
                int(rng.choice(clips_of[owners[owner]])),
                round(float(rng.uniform(-GAIN_RANGE_DB, GAIN_RANGE_DB)), 3),
            )
            for owner in speakers_of_it
        )
        babbles.append(Babble(f"babble-{number:04d}", voices, samples))
    return babbles


def make_babble(babble: Babble, read: Callable[[int], Wave]) -> Wave:
    """Return the voices' sum ``(samples,)``, each clip going round from a start of its own.

    Voices are equally loud in their active frames before their gains. A silent clip adds nothing;
    where all are silent, so is the babble.

    Args:
        babble: who talks, and how loud.
        read: returns a clip ``(samples,)`` by its position in the speech catalogue.
    """
    # Starts follow from the draw by a hash, so that babbles of the same people differ.
    starts = np.random.default_rng(zlib.crc32(repr(babble).encode())).random(len(babble.voices))
    total = np.zeros(babble.samples, np.float32)
    for voice, start in zip(babble.voices, starts, strict=True):
        clip = read(voice.clip)
        level_db = audio.active_level_db(clip)
        if level_db > mix.QUIETEST_DB:
            talk = mix.loop(clip, int(start * len(clip)), babble.samples)
            total += talk * np.float32(audio.gain(VOICE_LEVEL_DB + voice.gain_db - level_db))
    return total
