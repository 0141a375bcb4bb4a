"""Is one shard whole, and is it what its index, its metas and the manifest say?"""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Literal, NamedTuple

import numpy as np

from shard_tools.judge.align import MIN_CONFIDENCE, Alignment, estimate_offset
from timbre import shards, storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.errors import ShardError
from timbre.shards import Member, PairEntry, PairMeta, ShardEntry, ShardIndex
from timbre.shards import tar as tars

Kind = Literal[
    "missing",
    "unreadable",
    "manifest",
    "index",
    "tar",
    "meta",
    "audio",
    "offset",
    "plan",
    "duplicate",
    "leakage",
]

AUDIO_ENDINGS = (".flac", ".wav")
OFFSET_TOLERANCE = 2
# The manifest has seconds to the millisecond.
SECONDS_TOLERANCE = 1e-3
MAX_NAMED = 5


class Fault(NamedTuple):
    """Something wrong; ``shard`` is relative to the manifest, empty where it is none's own."""

    kind: Kind
    message: str
    shard: str = ""
    pair: str = ""

    def __str__(self) -> str:
        """Return the place and the message."""
        return ": ".join(part for part in (self.shard, self.pair, self.message) if part)


class ShardTask(NamedTuple):
    """A shard to check; the offsets of the pairs numbered in ``measured`` are measured again."""

    folder: str
    split: str
    shard: ShardEntry
    measured: tuple[int, ...]
    max_offset: int


class Pair(NamedTuple):
    """What a pair may share with others: all of its meta, and the CRC-32 and length of its sides."""

    meta: PairMeta
    sides: tuple[Member, Member]


class Told(NamedTuple):
    """What one index says of its shard as a whole: its plan, and the pairs refused by reason."""

    plan: str
    rejected: Counter[str]


class Checked(NamedTuple):
    """What was found in one shard; ``told`` is None where the index cannot be read."""

    task: ShardTask
    faults: tuple[Fault, ...]
    told: Told | None
    pairs: tuple[Pair, ...]
    samples: int
    measured: int


def check_shard(task: ShardTask) -> Checked:
    """Return everything wrong with a shard, reading it whole and decoding every pair."""
    shard = task.shard
    index, faults = _read_index(task)
    told = Told(index.plan, count_rejected(index)) if index else None
    try:
        data = storage.read(storage.join(task.folder, shard.path))
    except OSError as error:
        return Checked(task, (*faults, _unreadable(error, shard.path)), told, (), 0, 0)
    faults += _manifest_faults(task, data)
    try:
        derived = tars.index_tar(data, shard.path)
    except ShardError as error:
        faults.append(_broken("tar", error, shard.path))
        faults += _damaged(data, index, shard.path)
        return Checked(task, tuple(faults), told, (), 0, 0)
    faults += _stowaways(data, derived, shard.path)
    if index is not None:
        faults += _index_faults(index, derived, shard.path)
    pairs = []
    for entry in derived.pairs:
        pair, wrong = _read_meta(data, entry, shard.path)
        pairs.append(pair)
        faults += wrong
        faults += _audio_faults(data, entry, shard.path)
    samples = sum(entry.samples for entry in derived.pairs)
    faults += _count_faults(shard, len(derived.pairs), samples)
    offsets = list(_check_offsets(task, data, derived.pairs, pairs))
    faults += filter(None, offsets)
    known = tuple(pair for pair in pairs if pair is not None)
    return Checked(task, tuple(faults), told, known, samples, len(offsets))


def count_rejected(index: ShardIndex) -> Counter[str]:
    """Return how many pairs of a shard were refused for each reason."""
    return Counter({reason: len(refused) for reason, refused in index.rejected.items()})


def _read_index(task: ShardTask) -> tuple[ShardIndex | None, list[Fault]]:
    path = shards.index_path(task.shard.path)
    try:
        data = storage.read(storage.join(task.folder, path))
    except OSError as error:
        return None, [_unreadable(error, path)]
    faults = []
    if (found := shards.sha256(data)) != task.shard.index_sha256:
        message = f"sha256 {found}, but the manifest says {task.shard.index_sha256}"
        faults.append(Fault("index", message, path))
    try:
        return shards.from_json(ShardIndex, data, path), faults
    except ShardError as error:
        return None, [*faults, _broken("index", error, path)]


def _manifest_faults(task: ShardTask, data: bytes) -> Iterator[Fault]:
    shard = task.shard
    for name, found, expected in [
        ("sha256", shards.sha256(data), shard.sha256),
        ("bytes", len(data), shard.bytes),
    ]:
        if found != expected:
            yield Fault("tar", f"{name} {found}, but the manifest says {expected}", shard.path)


def _count_faults(shard: ShardEntry, pairs: int, samples: int) -> Iterator[Fault]:
    if pairs != shard.pairs:
        yield Fault("manifest", f"{pairs} pairs, but the manifest says {shard.pairs}", shard.path)
    seconds = samples / SAMPLE_RATE
    if abs(seconds - shard.seconds) > SECONDS_TOLERANCE:
        message = f"{seconds:.3f} seconds, but the manifest says {shard.seconds:.3f}"
        yield Fault("manifest", message, shard.path)


def _damaged(data: bytes, index: ShardIndex | None, path: str) -> Iterator[Fault]:
    """Yield one fault with the pairs that the index knows and a damaged tar no longer holds."""
    lost = [
        entry.key
        for entry in (index.pairs if index else ())
        if any(zlib.crc32(_cut(data, at)) != at.crc32 for at in entry.members.values())
    ]
    if lost:
        shown = ", ".join(lost[:MAX_NAMED]) + (", …" if len(lost) > MAX_NAMED else "")
        yield Fault("tar", f"{len(lost)} of its pairs are cut off or damaged: {shown}", path)


def _stowaways(data: bytes, derived: ShardIndex, path: str) -> Iterator[Fault]:
    """Yield a fault if the tar holds more than its pairs: a key twice in a row, say.

    Our tars hold nothing but one header a member, the members, and zeros.
    """
    block = tars.TAR_BLOCK
    members = [at for entry in derived.pairs for at in entry.members.values()]
    end = sum(block + -(-at.length // block) * block for at in members)
    if any(data[end:]):
        yield Fault("tar", "it holds members beside those of its pairs, or some twice", path)


def _index_faults(index: ShardIndex, derived: ShardIndex, path: str) -> Iterator[Fault]:
    where = shards.index_path(path)
    for name in ("schema", "tar_bytes", "tar_sha256"):
        told, found = getattr(index, name), getattr(derived, name)
        if told != found:
            yield Fault("index", f"{name} {told}, but that of the tar is {found}", where)
    known = {entry.key: entry for entry in index.pairs}
    present = {entry.key: entry for entry in derived.pairs}
    for key in sorted(known.keys() - present.keys()):
        yield Fault("index", "it is in the index, but not in the tar", where, key)
    for key in sorted(present.keys() - known.keys()):
        yield Fault("index", "it is in the tar, but not in the index", where, key)
    for key in sorted(present.keys() & known.keys()):
        for message in _differences(known[key], present[key]):
            yield Fault("index", message, where, key)
    if known.keys() == present.keys() and list(known) != list(present):
        yield Fault("index", "its pairs are in another order than in the tar", where)
    if len(known) != len(index.pairs):
        yield Fault("index", "it has the same key twice", where)


def _differences(told: PairEntry, found: PairEntry) -> Iterator[str]:
    for name in (field.name for field in fields(PairEntry) if field.name != "members"):
        if (says := getattr(told, name)) != (is_now := getattr(found, name)):
            yield f"{name} {says}, but the tar has {is_now}"
    for member in sorted(told.members.keys() | found.members.keys()):
        says_at, is_at = told.members.get(member), found.members.get(member)
        if says_at != is_at:
            yield f"{member}: {_place(says_at)}, but the tar has {_place(is_at)}"


def _place(member: Member | None) -> str:
    if member is None:
        return "none"
    return f"{member.length} bytes at {member.offset} with CRC-32 {member.crc32:08x}"


def _read_meta(data: bytes, entry: PairEntry, path: str) -> tuple[Pair | None, list[Fault]]:
    """Return what a pair may share with others, unless it says too little, and what is wrong."""
    try:
        meta = shards.from_json(PairMeta, _bytes(data, entry, shards.META_MEMBER), entry.key)
    except ShardError as error:
        message = str(error).removeprefix(f"{entry.key}: ")
        return None, [Fault("meta", message, path, entry.key)]
    return Pair(meta, _sides(entry)), list(_meta_faults(meta, entry, path))


def _meta_faults(meta: PairMeta, entry: PairEntry, path: str) -> Iterator[Fault]:
    if meta.schema != shards.SCHEMA:
        yield Fault("meta", f"schema {meta.schema}, expected {shards.SCHEMA}", path, entry.key)
    if meta.key != entry.key:
        yield Fault("meta", f"its meta is that of {meta.key}", path, entry.key)
    if abs(meta.alignment_offset) >= meta.samples:
        message = f"alignment_offset {meta.alignment_offset} of {meta.samples} samples"
        yield Fault("meta", message, path, entry.key)


def _audio_faults(data: bytes, entry: PairEntry, path: str) -> Iterator[Fault]:
    for name in entry.members:
        if not name.endswith(AUDIO_ENDINGS):
            continue
        try:
            found = tars.count_samples(_bytes(data, entry, name), name)
        except ShardError as error:
            yield Fault("audio", str(error), path, entry.key)
            continue
        if found != entry.samples:
            message = f"{name}: {found} samples, but its meta says {entry.samples}"
            yield Fault("audio", message, path, entry.key)


def _check_offsets(
    task: ShardTask, data: bytes, entries: Sequence[PairEntry], pairs: Sequence[Pair | None]
) -> Iterator[Fault | None]:
    """Yield what is wrong with each chosen pair whose offset could be measured again."""
    for number in (row for row in task.measured if row < len(entries)):
        try:
            clean, degraded = (_wave(data, entries[number], s) for s in ("clean", "degraded"))
        except ShardError:  # told by _audio_faults
            continue
        found = estimate_offset(clean, degraded, task.max_offset)
        pair = pairs[number]
        message = _contradiction(pair.meta, found, task.max_offset) if pair else ""
        if message:
            yield Fault("offset", message, task.shard.path, entries[number].key)
        elif found.confidence >= MIN_CONFIDENCE:
            yield None


def _contradiction(meta: PairMeta, found: Alignment, max_offset: int) -> str:
    """Return what a measurement has against the stored alignment; empty if it proves nothing."""
    offset, confidence = meta.alignment_offset, meta.alignment_confidence
    if found.confidence >= MIN_CONFIDENCE:
        measured = f"{found.offset} is measured, with confidence {found.confidence:.2f}"
        agrees = abs(found.offset - offset) <= OFFSET_TOLERANCE
        return "" if agrees else f"alignment_offset {offset}, but {measured}"
    # Another edition may have looked farther, or into shorter pairs.
    in_reach = abs(offset) < max_offset <= meta.samples // 2
    if not in_reach or confidence < MIN_CONFIDENCE or found.confidence >= confidence / 2:
        return ""
    measured = f"{found.confidence:.2f} is measured: its sides do not belong together"
    return f"alignment_confidence {confidence:.2f}, but {measured}"


def _wave(data: bytes, entry: PairEntry, side: str) -> Wave:
    """Return one side as ``(samples,)`` float32."""
    name = tars.audio_member(entry.members, side)
    wave = tars.decode_segment(_bytes(data, entry, name), 0, entry.samples, name)
    return wave.astype(np.float32) / np.float32(32768)


def _sides(entry: PairEntry) -> tuple[Member, Member]:
    clean, degraded = (tars.audio_member(entry.members, side) for side in ("clean", "degraded"))
    return entry.members[clean], entry.members[degraded]


def _bytes(data: bytes, entry: PairEntry, member: str) -> bytes:
    return _cut(data, entry.members[member])


def _cut(data: bytes, at: Member) -> bytes:
    return data[at.offset : at.offset + at.length]


def _unreadable(error: OSError, path: str) -> Fault:
    if isinstance(error, FileNotFoundError):
        return Fault("missing", "the manifest lists it, but it is not there", path)
    return Fault("unreadable", str(error), path)


def _broken(kind: Kind, error: ShardError, path: str) -> Fault:
    """Return an error of the contract as a fault; its message begins with the name it was given."""
    return Fault(kind, str(error).removeprefix(f"{path}: "), path)
