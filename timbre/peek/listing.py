"""The names of the pairs of a step, and where they lie."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from timbre import shards
from timbre.shards import Corpus, ShardEntry, ShardIndex
from timbre.stream import Order

OPEN_INDEXES = 64


class Batch(NamedTuple):
    """What a rank is served in one step of an epoch, which begins at pair ``sample`` of the order.

    ``shards`` names for each of the keys the tar that it lies in, relative to the manifest.
    """

    step: int
    sample: int
    keys: tuple[str, ...]
    shards: tuple[str, ...]


def batch_at(corpora: Sequence[Corpus], rows: Order, step: int, sample: int) -> Batch:
    """Return the batch of these rows of an order.

    Raises:
        OSError, ShardError: a shard or its index is missing, or not the manifest's.
    """
    places = [
        (corpora[number], corpora[number].shards[shard], pair) for number, shard, pair in rows
    ]
    keys = tuple(
        _open_index(corpus.index_folder, shard).pairs[pair].key for corpus, shard, pair in places
    )
    return Batch(step, sample, keys, tuple(shard.path for _, shard, _ in places))


@lru_cache(maxsize=OPEN_INDEXES)
def _open_index(folder: str, shard: ShardEntry) -> ShardIndex:
    return shards.load_index(folder, shard)
