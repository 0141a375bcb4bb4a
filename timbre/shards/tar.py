"""What lies in a shard's tar: its index derived from the bytes, its members checked by their CRC-32."""

import mmap
import re
from collections.abc import Iterable, Iterator, Sequence

from zlib_ng import zlib_ng

from timbre import storage
from timbre.errors import ShardError
from timbre.shards.decode import claimed_samples, count_samples
from timbre.shards.records import (
    META_MEMBER,
    NOISY_SIDES,
    SCHEMA,
    Member,
    PairEntry,
    PairTiming,
    Rejection,
    ShardIndex,
    from_json,
)
from timbre.shards.tar_members import tar_files
from timbre.storage import Span, is_companion

# Why a pair is among the refused of an index.
UNREADABLE = "unreadable"
# As WebDataset splits a name: the key ends at the first dot of the file's own name.
MEMBER_NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]+)", re.DOTALL)
# A member that would be one if its key had no dots.
DOTTED_SIDE = re.compile(r"\.(clean|degraded|noisy|pair)\.")


def index_tar(data: bytes | mmap.mmap, name: str) -> ShardIndex:
    """Return the index of a shard, derived from the bytes of its tar.

    A pair whose length nothing says, because it cannot be decoded, is among the refused, as
    ``unreadable``, by its key.

    Raises:
        ShardError: the tar is cut or damaged, or its members are not whole pairs in sequence.
    """
    pairs: dict[str, PairEntry] = {}
    unreadable: dict[str, Rejection] = {}
    for number, (key, members) in enumerate(_group(data, name)):
        if key in pairs or key in unreadable:
            raise ShardError(f"{name}: the members of {key!r} do not lie together")
        timing = _timing(data, key, members, name)
        offset, samples = timing.alignment_offset, _samples(data, key, members, timing)
        if samples is None:
            unreadable[key] = Rejection(number, key, 0, 0)
        elif samples <= abs(offset):
            raise ShardError(
                f"{name}: {key}: alignment_offset {offset}, expected it within the {samples} samples"
            )
        else:
            pairs[key] = PairEntry(key, samples, offset, timing.bandwidth_hz, members)
    rejected = {UNREADABLE: tuple(unreadable.values())} if unreadable else {}
    return ShardIndex(
        SCHEMA, len(data), storage.sha256(data), tuple(pairs.values()), rejected=rejected
    )


def audio_member(members: Iterable[str], side: str) -> str:
    """Return the member that holds ``side`` (clean, degraded, noisy), whatever its format.

    Raises:
        ShardError: there is none.
    """
    for name in members:
        if name.partition(".")[0] == side:
            return name
    raise ShardError(f"no member {side}")


def span_of(url: str, entry: PairEntry, names: Sequence[str]) -> Span:
    """Return the stretch of the tar at ``url`` that holds these members of a pair."""
    members = [entry.members[name] for name in names]
    first = min(member.offset for member in members)
    return Span(url, first, max(member.offset + member.length for member in members) - first)


def split_span(
    data: bytes, first: int, entry: PairEntry, names: Sequence[str], url: str
) -> list[memoryview]:
    """Return the members in the tar's bytes from ``first`` on, each checked against its CRC-32.

    Raises:
        ShardError: a member's bytes are not those that were indexed.
    """
    members, view = [], memoryview(data)
    for name in names:
        offset, length, crc = entry.members[name]
        member = view[offset - first : offset - first + length]
        if zlib_ng.crc32(member) != crc:
            raise ShardError(f"{url}: {entry.key}.{name}: CRC-32 differs from the index")
        members.append(member)
    return members


def read_members(url: str, entry: PairEntry, names: Sequence[str]) -> list[memoryview]:
    """Return members of one pair by one ranged read.

    Raises:
        OSError: the shard is missing or shorter than the index says.
        ShardError: a member's bytes are not those that were indexed.
    """
    span = span_of(url, entry, names)
    return split_span(storage.read_range(*span), span.offset, entry, names, url)


def _group(data: bytes | mmap.mmap, name: str) -> Iterator[tuple[str, dict[str, Member]]]:
    """Yield the members of one key after the other; whoever is not whole ends it at once."""
    current, members = "", dict[str, Member]()
    for file in tar_files(data, name):
        split = MEMBER_NAME.fullmatch(file.name)
        if split is None or is_companion(
            file.name
        ):  # a README, say; WebDataset passes over it, too
            continue
        key, member = split.groups()
        if key != current and members:
            yield current, _whole(current, members, name)
            members = {}
        current = key
        if member in members:
            raise ShardError(f"{name}: {key}.{member} stands twice, expected once")
        with memoryview(data) as view:
            crc = zlib_ng.crc32(view[file.offset : file.offset + file.length])
        members[member] = Member(file.offset, file.length, crc)
    if members:
        yield current, _whole(current, members, name)


def _whole(key: str, members: dict[str, Member], name: str) -> dict[str, Member]:
    """Return the members of a pair; ShardError if one is not there."""
    sides = {member.partition(".")[0] for member in members} - {"pair"}
    absent = {"clean", "degraded", META_MEMBER} - (sides | members.keys())
    if not absent:
        return members
    for member in members:
        if DOTTED_SIDE.search(member):
            raise ShardError(
                f"{name}: {key}.{member}: a key ends at the first dot, so this is the member {member} "
                f"of {key}; expected a key without dots"
            )
    raise ShardError(
        f"{name}: {key}: no member {', '.join(sorted(absent))} among {', '.join(members)}; the members "
        "of a pair must lie together"
    )


def _timing(data: bytes | mmap.mmap, key: str, members: dict[str, Member], name: str) -> PairTiming:
    meta = _content(data, members[META_MEMBER])
    return from_json(PairTiming, meta, f"{name}: {key}.{META_MEMBER}")


def _samples(
    data: bytes | mmap.mmap, key: str, members: dict[str, Member], timing: PairTiming
) -> int | None:
    """Return how many samples all sides have; None if one cannot be decoded.

    Where the meta says a number, the sides are not decoded for it: they may only claim fewer.
    """
    count = count_samples if timing.samples is None else claimed_samples
    sides = [name for name in members if name.partition(".")[0] in NOISY_SIDES]
    try:
        counts = [count(_content(data, members[side]), f"{key}.{side}") for side in sides]
    except ShardError:
        return timing.samples
    if timing.samples is None:
        return min(counts) or None
    return min(timing.samples, *filter(None, counts))  # a FLAC may claim none


def _content(data: bytes | mmap.mmap, member: Member) -> bytes:
    return data[member.offset : member.offset + member.length]
