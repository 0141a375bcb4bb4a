"""What lies in a shard's tar: its index derived from the bytes, its members checked by their CRC-32."""

import io
import mmap
import re
import tarfile
import zlib
from collections.abc import Iterable, Sequence

from timbre import storage
from timbre.errors import ShardError
from timbre.shards.decode import count_samples
from timbre.shards.records import (
    META_MEMBER,
    SCHEMA,
    Member,
    PairEntry,
    PairTiming,
    ShardIndex,
    from_json,
)
from timbre.storage import Span

TAR_BLOCK = 512
# As WebDataset splits a name: the key ends at the first dot of the file's own name.
MEMBER_NAME = re.compile(r"((?:.*/|)[^./]+)\.([^/]+)")


def index_tar(data: bytes | mmap.mmap, name: str) -> ShardIndex:
    """Return the index of a shard, derived from the bytes of its tar.

    Raises:
        ShardError: the tar is cut or damaged, or its members are not whole pairs in sequence.
    """
    found: dict[str, dict[str, Member]] = {}
    current = ""
    try:
        with tarfile.open(fileobj=_as_file(data), mode="r:") as tar:
            for info in filter(tarfile.TarInfo.isfile, tar):
                split = MEMBER_NAME.fullmatch(info.name)
                if split is None:  # a README, say; WebDataset passes over it, too
                    continue
                key, member = split.groups()
                if key != current and key in found:
                    raise ShardError(f"{name}: the members of {key!r} do not lie together")
                current = key
                start = info.offset_data
                with memoryview(data) as view:
                    crc = zlib.crc32(view[start : start + info.size])
                found.setdefault(key, {})[member] = Member(start, info.size, crc)
            end = tar.offset
    except ShardError:
        raise
    except (tarfile.TarError, ValueError) as error:  # of what is mapped, no place beyond the end
        raise ShardError(f"{name}: not a whole tar: {error}") from None
    # tarfile takes a file cut between two members for a short archive: look for the end mark.
    if data[end : end + 2 * TAR_BLOCK] != bytes(2 * TAR_BLOCK):
        raise ShardError(f"{name}: breaks off after {len(found)} pairs: no end-of-archive mark")
    pairs = tuple(_entry(data, key, members, name) for key, members in found.items())
    return ShardIndex(SCHEMA, len(data), storage.sha256(data), pairs)


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
        if zlib.crc32(member) != crc:
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


def _entry(data: bytes | mmap.mmap, key: str, members: dict[str, Member], name: str) -> PairEntry:
    sides = {member.partition(".")[0] for member in members} - {"pair"}
    if missing := {"clean", "degraded", META_MEMBER} - (sides | members.keys()):
        raise ShardError(f"{name}: {key}: no member {', '.join(sorted(missing))}")

    def content(member: str) -> bytes:
        offset, length, _ = members[member]
        return data[offset : offset + length]

    timing = from_json(PairTiming, content(META_MEMBER), f"{name}: {key}.{META_MEMBER}")
    samples = timing.samples
    if samples is None:
        clean = audio_member(members, "clean")
        samples = count_samples(content(clean), f"{name}: {key}.{clean}")
    return PairEntry(key, samples, timing.alignment_offset, timing.bandwidth_hz, members)


def _as_file(data: bytes | mmap.mmap) -> "io.BytesIO | mmap.mmap":
    if isinstance(data, bytes):
        return io.BytesIO(data)
    data.seek(0)
    return data
