"""One pair out of its shard: both sides read, checked, aligned and cut."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from timbre import shards, storage
from timbre.audio import Int16Wave
from timbre.errors import ShardError
from timbre.shards import PairEntry, ShardEntry, ShardIndex

OPEN_INDEXES = 256


class PairPlace(NamedTuple):
    """Where one pair lies."""

    folder: str
    shard: ShardEntry
    entry: PairEntry


def read_segment(
    place: PairPlace, segment: int, seed: Sequence[int]
) -> tuple[Int16Wave, Int16Wave]:
    """Return (degraded, clean) of a pair, ``(segment,)`` each, cut at one instant.

    The cut is drawn in clean time and shifted by the pair's alignment offset. A pair that is
    shorter than the segment once its ends are aligned is followed by silence.
    """
    low, samples = _overlap(place.entry)
    kept = min(segment, samples)
    start = int(np.random.default_rng(seed).integers(low, low + samples - kept + 1))
    degraded, clean = _cut(place, start, kept)
    missing = (0, segment - kept)
    return np.pad(degraded, missing), np.pad(clean, missing)


def read_whole(place: PairPlace) -> tuple[Int16Wave, Int16Wave]:
    """Return (degraded, clean) of a pair, aligned, as long as both sides reach."""
    return _cut(place, *_overlap(place.entry))


def _overlap(entry: PairEntry) -> tuple[int, int]:
    """Return where, in clean time, both sides of a pair begin to exist, and for how long."""
    low = max(0, -entry.alignment_offset)
    return low, entry.samples - abs(entry.alignment_offset)


def _cut(place: PairPlace, start: int, samples: int) -> tuple[Int16Wave, Int16Wave]:
    url = storage.join(place.folder, place.shard.path)
    members = shards.read_members(url, place.entry)
    waves = []
    for side, begin in [("degraded", start + place.entry.alignment_offset), ("clean", start)]:
        member = shards.audio_member(members, side)
        name = f"{url}: {place.entry.key}.{member}"
        waves.append(shards.decode_segment(members[member], begin, samples, name))
    return waves[0], waves[1]


@lru_cache(maxsize=OPEN_INDEXES)
def open_index(folder: str, shard: ShardEntry) -> ShardIndex:
    """Return a shard's index, kept; a tar that is not as long as the manifest says is refused."""
    index = shards.load_index(folder, shard)
    url = storage.join(folder, shard.path)
    if (found := storage.size(url)) != shard.bytes:
        raise ShardError(f"{url}: {found} bytes, but the manifest says {shard.bytes}")
    return index
