"""The sample order: which pair is served when, as a pure function of what there is to serve.

The order of an epoch depends on (manifest, seed, epoch, window) alone: shards are permuted, then
pairs inside windows of ``window`` shards, which is a shuffle buffer without its state.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from timbre import shards
from timbre.config import STRICT, Name, Positive
from timbre.shards import ShardEntry

Order = NDArray[np.int64]


@dataclass(config=STRICT)
class DataSource:
    """One set of shards to train on, and its share of every epoch relative to the others."""

    manifest: Name
    weight: Positive = 1.0


class Corpus(NamedTuple):
    """The shards of one split of one manifest."""

    folder: str
    shards: tuple[ShardEntry, ...]
    weight: float
    manifest_sha256: str
    save_segment_seconds: float

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return sum(shard.pairs for shard in self.shards)


def open_corpus(source: DataSource, split: str) -> Corpus:
    """Return the shards of a split.

    Raises:
        FileNotFoundError: there is no manifest.
        ShardError: it is damaged, or has no such split.
    """
    manifest = shards.load_manifest(source.manifest)
    return Corpus(
        shards.folder_of(source.manifest),
        manifest.shards(split),
        source.weight,
        shards.sha256(shards.to_json(manifest)),
        manifest.save_segment_seconds,
    )


def order(pairs_per_shard: Sequence[int], seed: int, epoch: int, window: int) -> Order:
    """Return the order of one epoch: ``(pairs, 2)`` rows of shard number and pair number."""
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(pairs_per_shard))
    windows = []
    for first in range(0, len(shuffled), window):
        rows = np.concatenate(
            [
                np.stack([np.full(count, shard), np.arange(count)], axis=1)
                for shard in shuffled[first : first + window]
                for count in [pairs_per_shard[shard]]
            ]
        )
        windows.append(rng.permutation(rows))
    return np.concatenate(windows).astype(np.int64)


def mixed_order(corpora: Sequence[Corpus], seed: int, epoch: int, window: int) -> Order:
    """Return the order over several corpora: ``(pairs, 3)`` of corpus, shard and pair number.

    An epoch is as long as all corpora together. Each is served by its weight, going through its
    own epochs without a break: a small one with a large weight comes round several times.
    """
    total = sum(corpus.pairs for corpus in corpora)
    weights = np.array([corpus.weight for corpus in corpora])
    edges = np.rint(np.cumsum(weights) / weights.sum() * total).astype(int)
    quotas = np.diff(edges, prepend=0)
    if len(corpora) == 1:
        whose = np.zeros(total, int)
    else:
        repeated = np.repeat(np.arange(len(corpora)), quotas)
        whose = np.random.default_rng([seed, epoch, len(corpora)]).permutation(repeated)
    rows = np.empty((total, 3), np.int64)
    rows[:, 0] = whose
    for number, (corpus, quota) in enumerate(zip(corpora, quotas, strict=True)):
        counts = [shard.pairs for shard in corpus.shards]
        first, pairs = epoch * quota, corpus.pairs
        rounds = [
            order(counts, seed + number, turn, window)
            for turn in range(first // pairs, -(-(first + quota) // pairs))
        ]
        start = first % pairs
        if quota:
            rows[whose == number, 1:] = np.concatenate(rounds)[start : start + quota]
    return rows
