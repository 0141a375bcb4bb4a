"""Whole pairs, in one fixed sequence: what validation and evaluation measure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from timbre import storage
from timbre.errors import ShardError
from timbre.shards.corpus import Corpus
from timbre.shards.manifest import index_path, load_index
from timbre.shards.pairs import PairPlace, holds_noisy, read_whole
from timbre.shards.records import NOISY_SIDES, SIDES, ShardIndex


class AlignedPair(NamedTuple):
    """Waveforms ``(1, 1, samples)`` float32, and the clean side's bandwidth ``(1,)``.

    ``noisy`` is what the denoiser was given; None where it is not stored, or was not asked for.
    """

    degraded: Tensor
    clean: Tensor
    bandwidth_hz: Tensor
    noisy: Tensor | None


class PairList:
    """Where every pair of the corpora lies; only the index of the last shard asked for is kept."""

    def __init__(self, corpora: Sequence[Corpus]) -> None:
        self.shards = [(corpus, shard) for corpus in corpora for shard in corpus.shards]
        self._ends = np.cumsum([shard.pairs for _, shard in self.shards])
        self._open_index: tuple[int, ShardIndex] | None = None

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return int(self._ends[-1])

    def __iter__(self) -> Iterator[PairPlace]:
        """Yield every pair's place."""
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> PairPlace:
        """Return the place of pair ``row``; raises like :meth:`index`."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        corpus, shard = self.shards[number]
        first = int(self._ends[number]) - shard.pairs
        return PairPlace(corpus.folder, shard, self.index(number).pairs[row - first])

    def index(self, number: int) -> ShardIndex:
        """Return the index of shard ``number``.

        Raises:
            FileNotFoundError: there is none.
            ShardError: it is not the one that the manifest was written with.
        """
        if self._open_index is None or self._open_index[0] != number:
            corpus, shard = self.shards[number]
            index = load_index(corpus.index_folder, shard)
            if len(index.pairs) != shard.pairs:
                raise ShardError(
                    f"{storage.join(corpus.index_folder, index_path(shard.path))}: "
                    f"{len(index.pairs)} pairs, but the manifest says {shard.pairs}"
                )
            self._open_index = number, index
        return self._open_index[1]


def load_pair(place: PairPlace, device: torch.device, noisy: bool = False) -> AlignedPair:
    """Return a whole pair on a device, if asked for with its noisy side where that is stored.

    Raises:
        ShardError: it is damaged or cannot be read; the message names shard and key.
    """
    try:
        waves = read_whole(place, NOISY_SIDES if noisy and holds_noisy(place.entry) else SIDES)
    except (OSError, ShardError) as error:
        url = storage.join(place.folder, place.shard.path)
        raise ShardError(f"{url}: pair {place.entry.key} cannot be read: {error}") from error
    degraded, clean, *noisy_side = (
        torch.from_numpy(wave).to(device).float()[None, None] / 32768 for wave in waves
    )
    bandwidth_hz = torch.tensor([place.entry.bandwidth_hz], device=device)
    return AlignedPair(degraded, clean, bandwidth_hz, noisy_side[0] if noisy_side else None)


def spread(total: int, count: int) -> list[int]:
    """Return ``min(count, total)`` of the numbers below ``total``, evenly spread, in order."""
    count = min(count, total)
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]
