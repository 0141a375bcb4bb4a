"""Is one shard whole, and is it what its index, its metas and the manifest say?"""

from collections.abc import Iterator
from dataclasses import fields

from zlib_ng import zlib_ng

from shard_tools.verify.faults import (
    Fault,
    IndexSummary,
    Kind,
    PairFacts,
    ShardCheck,
    ShardResult,
    count_refusals,
    cut_member,
    member_bytes,
)
from shard_tools.verify.offsets import check_offsets
from timbre import shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import ShardError
from timbre.shards import Member, PairEntry, PairMeta, ShardEntry, ShardIndex

AUDIO_ENDINGS = (".flac", ".wav")
# The manifest has seconds to the millisecond.
SECONDS_TOLERANCE = 1e-3
MAX_PRINTED = 5


def check_shard(check: ShardCheck) -> ShardResult:
    """Return everything wrong with a shard, reading it whole and decoding every pair."""
    shard = check.shard
    index, faults = _read_index(check)
    summary = IndexSummary(index.plan, count_refusals(index)) if index else None
    try:
        data = storage.read(storage.join(check.folder, shard.path))
    except OSError as error:
        return ShardResult(check, (*faults, _unreadable(error, shard.path)), summary, (), 0, 0)
    faults += _manifest_faults(check, data)
    try:
        index_of_tar = shards.index_tar(data, shard.path)
    except ShardError as error:
        faults.append(_fault_of("tar", error, shard.path))
        faults += _damage(data, index, shard.path)
        return ShardResult(check, tuple(faults), summary, (), 0, 0)
    ours = check.ours or bool(index and index.plan)
    if ours:
        faults += _stowaways(data, index_of_tar, shard.path)
    if index is not None:
        faults += _index_faults(index, index_of_tar, shard.path)
    pairs = []
    for entry in index_of_tar.pairs:
        pair, wrong = _read_meta(data, entry, shard.path, ours)
        pairs.append(pair)
        faults += wrong
        samples = pair.meta.samples if pair and pair.meta else entry.samples
        faults += _audio_faults(data, entry, samples, shard.path, ours)
    samples = sum(entry.samples for entry in index_of_tar.pairs)
    faults += _count_faults(shard, len(index_of_tar.pairs), samples)
    offsets = list(check_offsets(check, data, index_of_tar.pairs, pairs))
    faults += filter(None, offsets)
    with_meta = tuple(pair for pair in pairs if pair is not None)
    return ShardResult(check, tuple(faults), summary, with_meta, samples, len(offsets))


def _read_index(check: ShardCheck) -> tuple[ShardIndex | None, list[Fault]]:
    path = shards.index_path(check.shard.path)
    try:
        data = storage.read(storage.join(check.folder, path))
    except OSError as error:
        return None, [_unreadable(error, path)]
    faults = []
    if (sha256 := storage.sha256(data)) != check.shard.index_sha256:
        message = f"sha256 {sha256}, but the manifest says {check.shard.index_sha256}"
        faults.append(Fault("index", message, path))
    try:
        return shards.from_json(ShardIndex, data, path), faults
    except ShardError as error:
        return None, [*faults, _fault_of("index", error, path)]


def _manifest_faults(check: ShardCheck, data: bytes) -> Iterator[Fault]:
    shard = check.shard
    for name, value, expected in [
        ("sha256", storage.sha256(data), shard.sha256),
        ("bytes", len(data), shard.bytes),
    ]:
        if value != expected:
            yield Fault("tar", f"{name} {value}, but the manifest says {expected}", shard.path)


def _count_faults(shard: ShardEntry, pairs: int, samples: int) -> Iterator[Fault]:
    if pairs != shard.pairs:
        yield Fault("manifest", f"{pairs} pairs, but the manifest says {shard.pairs}", shard.path)
    seconds = samples / SAMPLE_RATE
    if abs(seconds - shard.seconds) > SECONDS_TOLERANCE:
        message = f"{seconds:.3f} seconds, but the manifest says {shard.seconds:.3f}"
        yield Fault("manifest", message, shard.path)


def _damage(data: bytes, index: ShardIndex | None, path: str) -> Iterator[Fault]:
    """Yield one fault with the pairs that the index knows and a damaged tar no longer holds."""
    names = [
        entry.key
        for entry in (index.pairs if index else ())
        if any(zlib_ng.crc32(cut_member(data, at)) != at.crc32 for at in entry.members.values())
    ]
    if names:
        text = ", ".join(names[:MAX_PRINTED]) + (", …" if len(names) > MAX_PRINTED else "")
        yield Fault("tar", f"{len(names)} of its pairs are cut off or damaged: {text}", path)


def _stowaways(data: bytes, index_of_tar: ShardIndex, path: str) -> Iterator[Fault]:
    """Yield a fault if the tar holds more than its pairs: a key twice in a row, say.

    Our tars hold nothing but one header a member, the members, and zeros.
    """
    block = shards.TAR_BLOCK
    members = [at for entry in index_of_tar.pairs for at in entry.members.values()]
    end = sum(block + -(-at.length // block) * block for at in members)
    if any(data[end:]):
        yield Fault("tar", "it holds members beside those of its pairs, or some twice", path)


def _index_faults(index: ShardIndex, index_of_tar: ShardIndex, path: str) -> Iterator[Fault]:
    where = shards.index_path(path)
    for name in ("schema", "tar_bytes", "tar_sha256"):
        says, value = getattr(index, name), getattr(index_of_tar, name)
        if says != value:
            yield Fault("index", f"{name} {says}, but that of the tar is {value}", where)
    with_meta = {entry.key: entry for entry in index.pairs}
    present = {entry.key: entry for entry in index_of_tar.pairs}
    for key in sorted(with_meta.keys() - present.keys()):
        yield Fault("index", "it is in the index, but not in the tar", where, key)
    for key in sorted(present.keys() - with_meta.keys()):
        yield Fault("index", "it is in the tar, but not in the index", where, key)
    for key in sorted(present.keys() & with_meta.keys()):
        for message in _differences(with_meta[key], present[key]):
            yield Fault("index", message, where, key)
    if with_meta.keys() == present.keys() and list(with_meta) != list(present):
        yield Fault("index", "its pairs are in another order than in the tar", where)
    if len(with_meta) != len(index.pairs):
        yield Fault("index", "it has the same key twice", where)


def _differences(index: PairEntry, tar: PairEntry) -> Iterator[str]:
    for name in (field.name for field in fields(PairEntry) if field.name != "members"):
        if (says := getattr(index, name)) != (is_now := getattr(tar, name)):
            yield f"{name} {says}, but the tar has {is_now}"
    for member in sorted(index.members.keys() | tar.members.keys()):
        says_at, is_at = index.members.get(member), tar.members.get(member)
        if says_at != is_at:
            yield f"{member}: {_place(says_at)}, but the tar has {_place(is_at)}"


def _place(member: Member | None) -> str:
    if member is None:
        return "none"
    return f"{member.length} bytes at {member.offset} with CRC-32 {member.crc32:08x}"


def _read_meta(
    data: bytes, entry: PairEntry, path: str, ours: bool
) -> tuple[PairFacts | None, list[Fault]]:
    """Return what a pair may share with others, unless it says too little, and what is wrong.

    What training needs of a meta of another program was read with the tar's index.
    """
    try:
        meta = shards.from_json(PairMeta, member_bytes(data, entry, shards.META_MEMBER), entry.key)
    except ShardError as error:
        if not ours:
            return PairFacts(entry, _sides(entry), None), []
        message = str(error).removeprefix(f"{entry.key}: ")
        return None, [Fault("meta", message, path, entry.key)]
    return PairFacts(entry, _sides(entry), meta), list(_meta_faults(meta, entry, path))


def _meta_faults(meta: PairMeta, entry: PairEntry, path: str) -> Iterator[Fault]:
    if meta.schema != shards.SCHEMA:
        yield Fault("meta", f"schema {meta.schema}, expected {shards.SCHEMA}", path, entry.key)
    if meta.key != entry.key:
        yield Fault("meta", f"its meta is that of {meta.key}", path, entry.key)
    if abs(meta.alignment_offset) >= meta.samples:
        message = f"alignment_offset {meta.alignment_offset} of {meta.samples} samples"
        yield Fault("meta", message, path, entry.key)


def _audio_faults(
    data: bytes, entry: PairEntry, samples: int, path: str, ours: bool
) -> Iterator[Fault]:
    """Yield what is wrong with a pair's audio; in other programs' tars one side may be longer."""
    for name in entry.members:
        if not name.endswith(AUDIO_ENDINGS):
            continue
        try:
            count = shards.count_samples(member_bytes(data, entry, name), name)
        except ShardError as error:
            yield Fault("audio", str(error), path, entry.key)
            continue
        if count < samples or (ours and count > samples):
            message = f"{name}: {count} samples, but its meta says {samples}"
            yield Fault("audio", message, path, entry.key)


def _sides(entry: PairEntry) -> tuple[Member, Member]:
    clean, degraded = (shards.audio_member(entry.members, side) for side in ("clean", "degraded"))
    return entry.members[clean], entry.members[degraded]


def _unreadable(error: OSError, path: str) -> Fault:
    if isinstance(error, FileNotFoundError):
        return Fault("missing", "the manifest lists it, but it is not there", path)
    return Fault("unreadable", str(error), path)


def _fault_of(kind: Kind, error: ShardError, path: str) -> Fault:
    """Return an error of the contract as a fault; its message begins with the name it was given."""
    return Fault(kind, str(error).removeprefix(f"{path}: "), path)
