"""The sample order: which pair is served when, as a pure function of what there is to serve.

The order of an epoch depends on (manifest, seed, epoch, window) alone: shards are permuted, then
pairs inside windows of ``window`` shards, which is a shuffle buffer without its state. Any stretch
of it is had without what lies before, so going on at the end of an epoch costs what starting costs.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timbre.errors import ConfigError
from timbre.shards import Corpus

Order = NDArray[np.int64]

# Where what an order is made of changes, runs must not go on as if nothing had happened.
VERSION = 2
# Keep these draws apart from each other and from those of the crops and the augmentation.
SHARDS, PAIRS, CORPORA = 11, 12, 13
# Over so many pairs in a row every corpus has its share.
MIXED_TOGETHER = 1024
# A batch lies in two of each at most.
KEPT_WINDOWS, KEPT_EPOCHS = 4, 4


class EpochOrder:
    """The order of one corpus in one epoch; it holds a number a shard and a few windows.

    Args:
        pairs_per_shard: how many pairs each shard has, ``(shards,)``.
        seed, epoch: what the permutations are drawn from.
        window: so many shards of the permuted ones have their pairs shuffled together.
    """

    def __init__(self, pairs_per_shard: Order, seed: int, epoch: int, window: int) -> None:
        self._seed, self._epoch, self._window = seed, epoch, window
        self._shards = _permutation(len(pairs_per_shard), seed, epoch, 0, SHARDS)
        # Where in the order each of the permuted shards would begin if pairs were not shuffled.
        self._starts = np.concatenate([[0], np.cumsum(pairs_per_shard[self._shards])])
        self._edges = np.append(self._starts[:-1:window], self._starts[-1])
        self._rows_of = lru_cache(KEPT_WINDOWS)(self._shuffle)

    @property
    def pairs(self) -> int:
        """How many rows there are."""
        return int(self._starts[-1])

    def rows(self, start: int, stop: int) -> Order:
        """Return the rows ``start`` to ``stop``: ``(stop - start, 2)`` of shard and pair number."""
        first = int(np.searchsorted(self._edges, start, "right")) - 1
        stretches = [np.empty((0, 2), np.int64)]
        for number in range(first, len(self._edges) - 1):
            edge = int(self._edges[number])
            if edge >= stop:
                break
            stretches.append(self._rows_of(number)[max(start - edge, 0) : stop - edge])
        return np.concatenate(stretches)

    def _shuffle(self, number: int) -> Order:
        """Return all rows of a window."""
        first = number * self._window
        starts = self._starts[first : first + self._window + 1]
        places = starts[0] + _permutation(
            int(starts[-1] - starts[0]), self._seed, self._epoch, number, PAIRS
        )
        # "right" - 1 passes over shards without pairs.
        within = np.searchsorted(starts, places, "right") - 1
        return np.stack([self._shards[first + within], places - starts[within]], axis=1)


class Beginning(NamedTuple):
    """Where the order of a mix begins: its first epoch; of each corpus, its number and what was served.

    By its number a corpus is named in the rows, and its permutations are drawn.
    """

    epoch: int
    numbers: tuple[int, ...]
    served: tuple[int, ...]


class SampleOrder:
    """The order over several corpora.

    An epoch is as long as all corpora together. Each is served by its weight, evenly over the
    epoch, and goes through its own epochs without a break: a small one with a large weight comes
    round several times.

    Raises:
        ConfigError: a corpus is empty, or its weight too small for a single pair of it in an epoch.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        seed: int,
        window: int,
        beginning: Beginning | None = None,
    ) -> None:
        self._seed, self._window = seed, window
        count = len(corpora)
        self._beginning = beginning or Beginning(0, tuple(range(count)), (0,) * count)
        self._counts = [
            np.array([shard.pairs for shard in corpus.shards], np.int64) for corpus in corpora
        ]
        self.pairs = sum(int(counts.sum()) for counts in self._counts)
        self._weights = [corpus.weight for corpus in corpora]
        for corpus, counts in zip(corpora, self._counts, strict=True):
            if not counts.sum():
                raise ConfigError(f"data: {corpus.folder} holds no pairs")
        for corpus, quota in zip(corpora, self._quotas(self.pairs), strict=True):
            if not quota:
                raise ConfigError(
                    f"data: weight {corpus.weight:g} of {corpus.folder} is too small: it would get "
                    f"none of the {self.pairs} pairs of an epoch"
                )
        self._epoch_of = lru_cache(KEPT_EPOCHS * len(corpora))(self._open_epoch)

    @property
    def pairs_of_each(self) -> list[int]:
        """How many of an epoch's pairs come from each corpus."""
        return self._quotas(self.pairs)

    def rows(self, epoch: int, start: int, stop: int) -> Order:
        """Return the rows ``start`` to ``stop`` of an epoch: ``(stop - start, 3)``.

        Each is the numbers of corpus, shard and pair. Past the epoch's end it goes on with its
        beginning.
        """
        parts = [
            self._mix(epoch, block, low, high)
            for block, low, high in _blocks(start % self.pairs, stop - start, self.pairs)
        ]
        return np.concatenate([np.empty((0, 3), np.int64), *parts])

    def served(self, epoch: int, sample: int) -> dict[int, int]:
        """Return how many pairs of each corpus, by its number, come before a place in the order."""
        block, low = divmod(sample, MIXED_TOGETHER)
        before, whose = self._block(epoch, block)
        each = np.bincount(whose[:low], minlength=len(before))
        counts = [begun + int(own) for begun, own in zip(before, each, strict=True)]
        return dict(zip(self._beginning.numbers, counts, strict=True))

    def _mix(self, epoch: int, block: int, low: int, high: int) -> Order:
        """Return the rows ``low`` to ``high``, counted from its beginning, of a block."""
        before, whose = self._block(epoch, block)
        mine = whose[low:high]
        rows = np.empty((high - low, 3), np.int64)
        rows[:, 0] = np.array(self._beginning.numbers)[mine]
        for which in np.unique(mine):
            first = before[which] + int((whose[:low] == which).sum())
            here = mine == which
            rows[here, 1:] = self._own_rows(int(which), first, int(here.sum()))
        return rows

    def _block(self, epoch: int, block: int) -> tuple[list[int], Order]:
        """Return how many pairs of each corpus come before a block, and whose each of its rows is."""
        start, end = self._quotas(block * MIXED_TOGETHER), self._quotas(self._end_of(block))
        whole, beginning = self._quotas(self.pairs), self._beginning
        whose = np.repeat(np.arange(len(whole)), np.subtract(end, start))
        if len(whole) > 1:
            whose = whose[_permutation(len(whose), self._seed, epoch, block, CORPORA)]
        epochs = epoch - beginning.epoch
        before = [
            served + epochs * own + first
            for served, own, first in zip(beginning.served, whole, start, strict=True)
        ]
        return before, whose

    def _end_of(self, block: int) -> int:
        return min((block + 1) * MIXED_TOGETHER, self.pairs)

    def _own_rows(self, number: int, first: int, count: int) -> Order:
        """Return ``count`` rows of a corpus from its ``first`` on, counted through its epochs."""
        pairs = int(self._counts[number].sum())
        parts = []
        while count:
            turn, start = divmod(first, pairs)
            length = min(count, pairs - start)
            parts.append(self._epoch_of(number, turn).rows(start, start + length))
            first, count = first + length, count - length
        return np.concatenate(parts)

    def _open_epoch(self, number: int, turn: int) -> EpochOrder:
        seed = self._seed + self._beginning.numbers[number]
        return EpochOrder(self._counts[number], seed, turn, self._window)

    def _quotas(self, places: int) -> list[int]:
        """Return how many of an epoch's first ``places`` belong to each corpus.

        Each takes its share of what those before it have left, rounded. So no count ever falls as
        ``places`` grows, which rounding each share by itself does not grant.
        """
        quotas, places_left, weight = [], places, sum(self._weights)
        for own in self._weights[:-1]:
            quotas.append(int(places_left * (own / weight) + 0.5))
            places_left, weight = places_left - quotas[-1], weight - own
        return [*quotas, places_left]


def _blocks(start: int, count: int, pairs: int) -> Iterator[tuple[int, int, int]]:
    """Yield the blocks that a stretch of a cyclic order touches, each with from where to where."""
    while count:
        block, low = divmod(start, MIXED_TOGETHER)
        high = min(low + count, MIXED_TOGETHER, pairs - block * MIXED_TOGETHER)
        yield block, low, high
        start, count = (start + high - low) % pairs, count - (high - low)


def _permutation(count: int, seed: int, epoch: int, number: int, stream: int) -> Order:
    return np.random.default_rng([seed, epoch, number, stream]).permutation(count)
