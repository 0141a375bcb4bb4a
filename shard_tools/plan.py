"""What every shard will hold: a pure function of (catalogues, config, seed, shard index).

Speakers (or, where none is named, recordings) fall to training or validation by a hash of their
name, so a new speaker moves nobody. Noises and room responses are split the same way: validation
hears none of training's.
"""

import hashlib
import itertools
import math
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from shard_tools.sources import Clip
from timbre.config import STRICT, Share
from timbre.errors import ConfigError
from timbre.shards import Split

Shard = tuple[Split, int]

SPLITS: tuple[Split, Split] = ("train", "val")
MOST_VALIDATION = 1.5


@dataclass(config=STRICT)
class MixConfig:
    """How loud the speech is, and how far above the noise."""

    snr_db_low: float = 0.0
    snr_db_high: float = 20.0
    # Nearly clean input teaches the network to do no harm.
    near_clean_share: Share = 0.1
    near_clean_snr_db: float = 40.0
    # DeepFilterNet3 is at its best between -30 and -10 dBFS.
    level_db_low: float = -28.0
    level_db_high: Annotated[float, Field(le=0)] = -22.0

    def __post_init__(self) -> None:
        for low, high in [("snr_db_low", "snr_db_high"), ("level_db_low", "level_db_high")]:
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} {getattr(self, low)} exceeds {high} {getattr(self, high)}")


class Piece(NamedTuple):
    """A stretch of a clip, in samples at 48 kHz, and which of its variants this is."""

    clip: Clip
    start: int
    samples: int
    variant: int


class Pools(NamedTuple):
    """What a split draws from: positions in the noise and room-response catalogues."""

    noises: tuple[int, ...]
    rirs: tuple[int, ...]


class Plan(NamedTuple):
    """The pieces of each split in shard order, and its pools."""

    pieces: dict[Split, tuple[Piece, ...]]
    pools: dict[Split, Pools]
    shard_pairs: int
    seed: int

    def shards(self) -> list[Shard]:
        """Return (split, number) of every shard."""
        return [
            (split, number)
            for split in SPLITS
            for number in range(-(-len(self.pieces[split]) // self.shard_pairs))
        ]

    def shard(self, split: Split, number: int) -> tuple[Piece, ...]:
        """Return the pieces of one shard."""
        first = number * self.shard_pairs
        return self.pieces[split][first : first + self.shard_pairs]


class Recipe(NamedTuple):
    """Every random choice of one pair. ``noise_start`` is a share of the recording's length."""

    snr_db: float
    level_db: float
    noise: int
    noise_start: float
    rir: int | None


def split_names(names: set[str], val_ratio: float) -> dict[str, Split]:
    """Return the split of every name, by a hash of the name alone: a new name moves no other.

    Only where few names fall badly by chance are the nearest ones moved over: validation gets at
    least one and at most one and a half times its share, and training is left one. A single name is
    all validation's.
    """
    ranked = sorted(names, key=_hash)
    count = sum(_hash(name) < val_ratio for name in ranked)
    most = min(math.ceil(MOST_VALIDATION * val_ratio * len(ranked)), len(ranked) - 1)
    count = max(min(count, most), 1)
    return {name: "val" if rank < count else "train" for rank, name in enumerate(ranked)}


def cut(clip: Clip, segment: int) -> list[tuple[int, int]]:
    """Return (start, samples) of a clip's pieces: each at least ``segment`` long, none overlapping.

    Together they cover the clip. A clip shorter than ``segment`` is one piece, which reaches past
    the clip's end into silence.
    """
    count = max(clip.samples // segment, 1)
    edges = [round(i * max(clip.samples, segment) / count) for i in range(count + 1)]
    return [(low, high - low) for low, high in itertools.pairwise(edges)]


class PlanSize(NamedTuple):
    """The numbers of the config that a plan depends on."""

    segment: int
    variants: int
    shard_pairs: int
    val_ratio: float
    seed: int


def make_plan(
    speech: tuple[Clip, ...], noises: tuple[Clip, ...], rirs: tuple[Clip, ...], size: PlanSize
) -> Plan:
    """Return the plan for these catalogues.

    Raises:
        ConfigError: there are too few speakers and recordings for two splits.
    """
    owner = {clip: clip.speaker or clip.path for clip in speech}
    if len(set(owner.values())) == 1:
        owner = {clip: clip.path for clip in speech}
    if len(speech) < 2:
        raise ConfigError(f"speech: {len(speech)} usable clips; two are needed, one for validation")
    split_of = split_names(set(owner.values()), size.val_ratio)
    pieces: dict[Split, tuple[Piece, ...]] = {}
    for split in SPLITS:
        listed = [
            Piece(clip, start, samples, variant)
            for clip in speech
            if split_of[owner[clip]] == split
            for start, samples in cut(clip, size.segment)
            for variant in range(size.variants)
        ]
        order = np.random.default_rng([size.seed, SPLITS.index(split)]).permutation(len(listed))
        pieces[split] = tuple(listed[i] for i in order)
    pools = {
        split: Pools(_pool(noises, split, size.val_ratio), _pool(rirs, split, size.val_ratio))
        for split in SPLITS
    }
    return Plan(pieces, pools, size.shard_pairs, size.seed)


def shard_seed(plan: Plan, shard: Shard) -> tuple[int, int, int]:
    """Return the seed from which every random choice of a shard comes."""
    split, number = shard
    return plan.seed, SPLITS.index(split), number


def draw_recipes(plan: Plan, shard: Shard, mix: MixConfig, reverb_share: float) -> list[Recipe]:
    """Return the recipe of each piece of a shard."""
    rng = np.random.default_rng(shard_seed(plan, shard))
    pools = plan.pools[shard[0]]
    recipes = []
    for _ in plan.shard(*shard):
        near_clean = rng.random() < mix.near_clean_share
        snr = rng.uniform(mix.snr_db_low, mix.snr_db_high)
        level = rng.uniform(mix.level_db_low, mix.level_db_high)
        noise = pools.noises[rng.integers(len(pools.noises))]
        start = rng.random()
        reverberant = rng.random() < reverb_share
        rir = pools.rirs[rng.integers(len(pools.rirs))] if pools.rirs else None
        recipes.append(
            Recipe(
                round(mix.near_clean_snr_db if near_clean else snr, 3),
                round(level, 3),
                noise,
                start,
                rir if reverberant else None,
            )
        )
    return recipes


def _pool(clips: tuple[Clip, ...], split: Split, val_ratio: float) -> tuple[int, ...]:
    if len(clips) == 1:  # better heard twice than not at all
        return (0,)
    split_of = split_names({clip.path for clip in clips}, val_ratio)
    return tuple(i for i, clip in enumerate(clips) if split_of[clip.path] == split)


def _hash(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
