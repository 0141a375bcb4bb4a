"""What every shard will hold: a pure function of (catalogues, config, seed, shard index).

Speakers (or, where none is named, recordings) fall to training or validation by a hash of their
name, so a new speaker moves nobody. Noises and rooms are split the same way: validation hears none
of training's.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shard_tools.config import PrepConfig
from shard_tools.scan.catalogue import Clip
from timbre.audio import SAMPLE_RATE
from timbre.shards import Split

Shard = tuple[Split, int]
Ints = NDArray[np.int64]

SPLITS: tuple[Split, Split] = ("train", "val")
# Pieces of a long recording that stay together, to be read together; the rest of it goes elsewhere,
# so that no shard is one speaker's.
TAKE_SECONDS = 60.0
# Of few speakers the hash may put far too many on one side: at most so many times the share.
MOST_VALIDATION = 2.0


class Piece(NamedTuple):
    """A stretch of a clip, in samples at 48 kHz, and which of its variants this is."""

    clip: Clip
    start: int
    samples: int
    variant: int


class PlanSize(NamedTuple):
    """The numbers of the config that a plan depends on; lengths in samples."""

    segment: int
    # What is kept of the silence around the speech; None keeps all of it.
    margin: int | None
    variants: int
    shard_pairs: int
    seed: int


class Takes(NamedTuple):
    """The takes of a split in shard order: of which clip, from which piece, how many pieces.

    ``ends`` counts the pairs up to the end of each.
    """

    clips: Ints
    firsts: Ints
    counts: Ints
    ends: Ints


class Plan(NamedTuple):
    """What the shards of one edition hold. Their numbers go on after those of earlier editions."""

    clips: tuple[Clip, ...]
    takes: dict[Split, Takes]
    first_shard: dict[Split, int]
    size: PlanSize

    def pairs(self, split: Split) -> int:
        """Return how many pairs are planned."""
        ends = self.takes[split].ends
        return int(ends[-1]) if len(ends) else 0

    def shards(self) -> list[Shard]:
        """Return (split, number) of every shard."""
        return [
            (split, self.first_shard[split] + i)
            for split in SPLITS
            for i in range(-(-self.pairs(split) // self.size.shard_pairs))
        ]

    def shard(self, split: Split, number: int) -> tuple[Piece, ...]:
        """Return the pieces of one shard."""
        begin = (number - self.first_shard[split]) * self.size.shard_pairs
        end = min(begin + self.size.shard_pairs, self.pairs(split))
        return tuple(self._piece(self.takes[split], pair) for pair in range(begin, end))

    def _piece(self, takes: Takes, pair: int) -> Piece:
        take = int(np.searchsorted(takes.ends, pair, side="right"))
        clip = self.clips[takes.clips[take]]
        within = pair - int(takes.ends[take] - takes.counts[take] * self.size.variants)
        number, variant = divmod(within, self.size.variants)
        start, samples = piece_of(clip, int(takes.firsts[take]) + number, self.size)
        return Piece(clip, start, samples, variant)


def split_names(
    names: Iterable[str], val_ratio: float, sides_before: Mapping[str, Split] | None = None
) -> dict[str, Split]:
    """Return the split of every name, by a hash of the name alone: a new name moves no other.

    Only where few names fall badly by chance are the nearest ones put on the other side: neither is
    left without any, and validation gets at most twice its share. Names of
    ``sides_before`` stay where they are.
    """
    split_of = dict(sides_before or {})
    fresh = sorted(set(names) - split_of.keys(), key=name_hash)
    most = math.ceil(MOST_VALIDATION * val_ratio * len(fresh))
    for rank, name in enumerate(fresh):
        split_of[name] = "val" if name_hash(name) < val_ratio and rank < most else "train"
    if fresh and "val" not in split_of.values():
        split_of[fresh[0]] = "val"
    if len(fresh) > 1 and "train" not in split_of.values():
        split_of[fresh[-1]] = "train"
    return split_of


def split_pool(names: Sequence[str], val_ratio: float) -> dict[Split, tuple[int, ...]]:
    """Return the positions of the noises or rooms that each split draws from."""
    if len(names) == 1:  # better heard on both sides than not at all
        return dict.fromkeys(SPLITS, (0,))
    split_of = split_names(names, val_ratio)
    return {
        split: tuple(i for i, name in enumerate(names) if split_of[name] == split)
        for split in SPLITS
    }


def count_pieces(clip: Clip, size: PlanSize) -> int:
    """Return into how many pieces a clip is cut."""
    start, stop = _speech(clip, size)
    return max((stop - start) // size.segment, 1)


def piece_of(clip: Clip, number: int, size: PlanSize) -> tuple[int, int]:
    """Return (start, samples) of a clip's piece: a segment long or longer, and under two.

    Together the pieces cover the clip's speech without overlap. A shorter clip is one piece, which
    reaches past the speech and, if need be, past the clip's end into silence.
    """
    start, stop = _speech(clip, size)
    length, count = max(stop - start, size.segment), count_pieces(clip, size)
    low, high = round(number * length / count), round((number + 1) * length / count)
    return start + low, high - low


def plan_size(config: PrepConfig) -> PlanSize:
    """Return the numbers that a plan depends on."""
    margin = config.clips.trim_margin_seconds
    return PlanSize(
        round(config.save_segment_seconds * SAMPLE_RATE),
        None if margin is None else round(margin * SAMPLE_RATE),
        config.variants,
        config.shard_pairs,
        config.seed,
    )


def make_plan(
    clips: Sequence[Clip], size: PlanSize, edition: int = 1, first_shard: Mapping[Split, int] = {}
) -> Plan:
    """Return the plan for the usable clips of a catalogue, each of which names its split."""
    takes = {}
    longest = max(math.ceil(TAKE_SECONDS * SAMPLE_RATE / size.segment), 1)
    for split in SPLITS:
        entries = [
            (i, first, min(longest, count - first))
            for i, clip in enumerate(clips)
            if clip.split == split
            for count in [count_pieces(clip, size)]
            for first in range(0, count, longest)
        ]
        rng = np.random.default_rng([size.seed, SPLITS.index(split), edition])
        table = np.array(entries, np.int64).reshape(-1, 3)[rng.permutation(len(entries))]
        ends = np.cumsum(table[:, 2] * size.variants)
        takes[split] = Takes(table[:, 0], table[:, 1], table[:, 2], ends)
    return Plan(tuple(clips), takes, {split: first_shard.get(split, 0) for split in SPLITS}, size)


def shard_seed(plan: Plan, shard: Shard) -> tuple[int, int, int]:
    """Return the seed from which every random choice of a shard comes."""
    split, number = shard
    return plan.size.seed, SPLITS.index(split), number


def _speech(clip: Clip, size: PlanSize) -> tuple[int, int]:
    """Return where a clip's speech begins and ends, with its margin."""
    if size.margin is None:
        return 0, clip.samples
    return max(clip.speech_start - size.margin, 0), min(
        clip.speech_stop + size.margin, clip.samples
    )


def name_hash(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
