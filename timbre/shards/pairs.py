"""One pair out of its bytes: both sides decoded, aligned and cut."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from timbre import storage
from timbre.audio import Int16Wave
from timbre.errors import ShardError
from timbre.shards.decode import decode_segment
from timbre.shards.records import SIDES, PairEntry, ShardEntry
from timbre.shards.tar import audio_member, read_members


class PairPlace(NamedTuple):
    """Where one pair lies."""

    folder: str
    shard: ShardEntry
    entry: PairEntry

    @property
    def url(self) -> str:
        """The shard's."""
        return storage.join(self.folder, self.shard.path)


class PairBytes(NamedTuple):
    """A pair as it is stored: the encoded members of the sides that are wanted."""

    place: PairPlace
    names: tuple[str, ...]
    members: tuple[memoryview, ...]


def side_names(place: PairPlace, sides: Sequence[str]) -> tuple[str, ...]:
    """Return the members that hold these sides; ShardError if one is not there."""
    try:
        return tuple(audio_member(place.entry.members, side) for side in sides)
    except ShardError as error:
        raise ShardError(f"{place.url}: {place.entry.key}: {error}") from None


def holds_noisy(entry: PairEntry) -> bool:
    """Return whether the denoiser's input is stored with the pair."""
    return any(name.startswith("noisy.") for name in entry.members)


def cut_segment(pair: PairBytes, segment: int, seed: Sequence[int]) -> list[Int16Wave]:
    """Return the pair's sides, ``(segment,)`` each, cut at one instant; do not write to them.

    The cut is drawn in clean time, and the degraded side's is shifted by the pair's alignment
    offset. Of a pair that is shorter than the segment once its ends are aligned they are all of it.

    Raises:
        ShardError: a side cannot be decoded, or ends too early.
    """
    return _cut_sides(pair, draw_cut(pair.place.entry, segment, seed))


class Cut(NamedTuple):
    """A stretch of a pair: its first sample in clean time, and how many there are."""

    start: int
    samples: int

    def start_in(self, entry: PairEntry, name: str) -> int:
        """Return the first sample in the member ``name`` of a pair.

        The noisy side is what was mixed: only the denoiser moves anything.
        """
        return self.start + (entry.alignment_offset if name.startswith("degraded.") else 0)


def draw_cut(entry: PairEntry, segment: int, seed: Sequence[int]) -> Cut:
    """Return which stretch of a pair :func:`cut_segment` serves."""
    low, samples = overlap(entry)
    length = min(segment, samples)
    return Cut(low + _draw(seed, samples - length + 1), length)


def read_whole(place: PairPlace, sides: Sequence[str] = SIDES) -> list[Int16Wave]:
    """Return some sides of a pair, aligned, as long as both degraded and clean reach.

    Raises:
        OSError: the shard is missing or shorter than its index says.
        ShardError: a side is not there, or its bytes are not those that were indexed, or no audio.
    """
    names = side_names(place, sides)
    members = read_members(place.url, place.entry, names)
    waves = _cut_sides(PairBytes(place, names, tuple(members)), Cut(*overlap(place.entry)))
    return [wave.copy() for wave in waves]  # PyTorch wants what can be written to


def overlap(entry: PairEntry) -> tuple[int, int]:
    """Return where, in clean time, all sides of a pair begin to exist, and for how many samples."""
    low = max(0, -entry.alignment_offset)
    return low, entry.samples - abs(entry.alignment_offset)


def _draw(seed: Sequence[int], count: int) -> int:
    """Return a number below ``count``; NumPy's generators take 20 times as long to be seeded."""
    text = ",".join(map(str, seed)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") % count


def _cut_sides(pair: PairBytes, cut: Cut) -> list[Int16Wave]:
    place = pair.place
    waves = []
    for name, data in zip(pair.names, pair.members, strict=True):
        label = f"{place.url}: {place.entry.key}.{name}"
        start = cut.start_in(place.entry, name)
        waves.append(decode_segment(data, start, cut.samples, label))
    return waves
