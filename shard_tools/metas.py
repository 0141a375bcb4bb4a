"""The metas of a manifest's pairs, or of a repeatable choice among them, by ranged reads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from timbre import shards, storage
from timbre.errors import ConfigError, ShardError
from timbre.shards import Manifest, PairEntry, PairMeta, ShardEntry

T = TypeVar("T")
R = TypeVar("R")

SEED = 0
# Object stores answer in tens of milliseconds, and a meta is half a kilobyte.
READS_IN_FLIGHT = 32


class _Place(NamedTuple):
    """Where one pair lies."""

    url: str
    entry: PairEntry


def open_manifest(url: str) -> Manifest:
    """Return the manifest that a user named.

    Raises:
        ConfigError: there is none.
        ShardError: it is damaged.
    """
    try:
        return shards.load_manifest(url)
    except FileNotFoundError:
        message = f"{url}: expected a manifest, or the folder that holds manifest.json"
        raise ConfigError(message) from None


def choose(counts: Sequence[int], number: int) -> list[tuple[int, ...]]:
    """Return the numbers of the pairs chosen in each shard; the same ones at every call.

    Args:
        counts: the pairs of each shard.
        number: how many pairs over all shards; if there are fewer, each is chosen.
    """
    edges = np.cumsum([0, *counts])
    total = int(edges[-1])
    if number >= total:
        return [tuple(range(count)) for count in counts]
    picks = np.sort(np.random.default_rng(SEED).choice(total, number, replace=False))
    bounds = np.searchsorted(picks, edges)
    return [
        tuple((picks[low:high] - edge).tolist())
        for low, high, edge in zip(bounds, bounds[1:], edges, strict=False)
    ]


def read_metas(
    manifest_url: str, manifest: Manifest, split: str, sample: int | None = None
) -> list[PairMeta]:
    """Return the meta of every pair of a split, or of ``sample`` of them, in the shards' order.

    Raises:
        OSError, ShardError: a shard or an index is missing or damaged.
    """
    folder = shards.folder_of(manifest_url)
    entries = manifest.splits[split]
    counts = [shard.pairs for shard in entries]
    picks = choose(counts, sum(counts) if sample is None else sample)
    some = [(shard, rows) for shard, rows in zip(entries, picks, strict=True) if rows]

    def places_in(one: tuple[ShardEntry, tuple[int, ...]]) -> list[_Place]:
        shard, rows = one
        index = shards.load_index(folder, shard)
        url = storage.join(folder, shard.path)
        if not index.plan:
            raise ShardError(
                f"{url}: another program made it, so that its metas need not say more than how a "
                "pair is aligned; expected shards of timbre prep"
            )
        return [_Place(url, index.pairs[row]) for row in rows]

    by_shard = _at_once(places_in, some, f"{split} indexes")
    places = [place for places in by_shard for place in places]
    return _at_once(_read_meta, places, f"{split} metas")


def _read_meta(place: _Place) -> PairMeta:
    (data,) = shards.read_members(place.url, place.entry, [shards.META_MEMBER])
    return shards.from_json(PairMeta, bytes(data), f"{place.url}: {place.entry.key}")


def _at_once(work: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    with ThreadPoolExecutor(READS_IN_FLIGHT) as pool:
        return list(tqdm(pool.map(work, items), what, len(items), disable=None))
