"""The contract between shard creation and training: members, meta, index, manifest.

``SPLIT/shard-NNNNNN.tar`` is a plain WebDataset of ``KEY.clean.flac KEY.degraded.flac
KEY.pair.json``; ``shard-NNNNNN.index`` says where each member lies, so that one pair is one ranged
read; ``manifest.json``, written last, names every shard with its hash. Readers start from the
manifest and never list a folder.
"""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any, Literal, NamedTuple, TypeVar

import soundfile
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from timbre import storage
from timbre.audio import SAMPLE_RATE, Int16Wave
from timbre.config import STRICT
from timbre.errors import ShardError

T = TypeVar("T")

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
META_MEMBER = "pair.json"
TAR_BLOCK = 512
DECODED_AT_ONCE = 1 << 16

AudioFormat = Literal["flac", "wav"]
Split = Literal["train", "val"]
# A newer writer may say more about a pair than this reader knows.
OPEN = ConfigDict(**{**STRICT, "extra": "ignore"})


@dataclass(config=OPEN)
class Source:
    """A stretch of a recording, in samples at 48 kHz; ``path`` is as the catalogue has it.

    ``sha256`` is that of the recording's file, where it is known.
    """

    path: str
    start: int = 0
    samples: int = 0
    sha256: str = ""


@dataclass(config=OPEN)
class PairMeta:
    """``KEY.pair.json``: where a pair comes from and what was measured of it.

    ``degraded[n + alignment_offset]`` lines up with ``clean[n]``. Both sides hold ``samples``
    samples. ``bandwidth_hz`` is that of the clean side. ``noises`` are in order of loudness; a babble
    among them is named ``babble-…``, and ``voices`` are the recordings in it. ``seed`` is what the
    random choices of the whole shard were drawn from.
    """

    schema: int
    key: str
    samples: int
    alignment_offset: int
    alignment_confidence: float
    bandwidth_hz: float
    snr_db: float
    snr_reached_db: float
    gain_db: float
    speaker: str
    clean: Source
    noises: tuple[Source, ...]
    rir: str | None
    rt60_seconds: float | None
    denoiser: str
    denoiser_sha256: str
    seed: tuple[int, ...]
    quality: dict[str, float] = field(default_factory=dict)
    voices: tuple[str, ...] = ()


class Member(NamedTuple):
    """Where the bytes of one member lie in the tar, and their CRC-32."""

    offset: int
    length: int
    crc32: int


@dataclass(config=STRICT)
class PairEntry:
    """One pair in a shard's index."""

    key: str
    samples: int
    alignment_offset: int
    bandwidth_hz: float
    members: dict[str, Member]


class Rejection(NamedTuple):
    """A pair that was planned and refused: its number in the shard, and where its speech lies."""

    number: int
    path: str
    start: int
    variant: int


@dataclass(config=STRICT)
class ShardIndex:
    """``shard-NNNNNN.index``: every pair of a shard, and those that did not make it, by reason.

    ``plan`` is the SHA-256 of the plan that the shard belongs to.
    """

    schema: int
    tar_bytes: int
    tar_sha256: str
    pairs: tuple[PairEntry, ...]
    plan: str = ""
    rejected: dict[str, tuple[Rejection, ...]] = field(default_factory=dict)


@dataclass(config=STRICT)
class ShardEntry:
    """One shard in the manifest; ``path`` is relative to the manifest's folder."""

    path: str
    pairs: int
    bytes: int
    seconds: float
    sha256: str
    index_sha256: str


@dataclass(config=STRICT)
class Manifest:
    """``manifest.json``: what a folder of shards holds and what made it.

    ``version`` counts from 1; each addition to the data is one more, kept beside the latest as
    ``manifest-NNNNNN.json``. ``rejected`` counts the pairs that were refused by reason (the shards'
    indexes name them), ``clips`` the recordings of each role that are in use or were refused, by
    reason (the catalogues name them).
    """

    schema: int
    version: int
    sample_rate: int
    audio_format: AudioFormat
    save_segment_seconds: float
    splits: dict[str, tuple[ShardEntry, ...]]
    rejected: dict[str, int]
    clips: dict[str, dict[str, int]]
    hashes: dict[str, str]
    config: dict[str, Any]

    def shards(self, split: str) -> tuple[ShardEntry, ...]:
        """Return the shards of a split; ShardError if it has none."""
        if not self.splits.get(split):
            known = ", ".join(name for name, shards in self.splits.items() if shards) or "none"
            raise ShardError(f"manifest: no shards in split {split!r}; splits with shards: {known}")
        return self.splits[split]


def shard_path(split: str, number: int) -> str:
    """Return a shard's path relative to the manifest."""
    return f"{split}/shard-{number:06d}.tar"


def index_path(tar_path: str) -> str:
    """Return the path of a shard's index."""
    return tar_path.removesuffix(".tar") + ".index"


def load_manifest(url: str) -> Manifest:
    """Return the manifest at ``url``, a file or the folder that holds ``manifest.json``.

    Raises:
        FileNotFoundError: there is none.
        ShardError: it is not a manifest of this schema.
    """
    manifest = from_json(Manifest, storage.read(manifest_url(url)), manifest_url(url))
    for name, expected in [("schema", SCHEMA), ("sample_rate", SAMPLE_RATE)]:
        if (found := getattr(manifest, name)) != expected:
            raise ShardError(f"{url}: {name} {found}, expected {expected}")
    return manifest


def manifest_url(url: str) -> str:
    """Return the manifest's own URL for a manifest or the folder that holds it."""
    return url if url.endswith(".json") else storage.join(url, MANIFEST_NAME)


def folder_of(url: str) -> str:
    """Return the folder that a manifest's shard paths are relative to."""
    return manifest_url(url).rpartition("/")[0] or "."


def load_index(folder: str, shard: ShardEntry) -> ShardIndex:
    """Return a shard's index, checked against the hash in the manifest.

    Raises:
        FileNotFoundError: there is none.
        ShardError: it is not the one that the manifest was written with.
    """
    url = storage.join(folder, index_path(shard.path))
    data = storage.read(url)
    if (found := sha256(data)) != shard.index_sha256:
        raise ShardError(f"{url}: sha256 {found}, but the manifest says {shard.index_sha256}")
    return from_json(ShardIndex, data, url)


def index_tar(data: bytes, name: str) -> ShardIndex:
    """Return the index of a shard, derived from the bytes of its tar.

    Raises:
        ShardError: the tar is cut or damaged, or its members are not whole pairs in sequence.
    """
    found: dict[str, dict[str, Member]] = {}
    current = ""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for info in tar:
                key, _, member = info.name.partition(".")
                if key != current and key in found:
                    raise ShardError(f"{name}: the members of {key!r} do not lie together")
                current = key
                start = info.offset_data
                crc = zlib.crc32(data[start : start + info.size])
                found.setdefault(key, {})[member] = Member(start, info.size, crc)
            end = tar.offset
    except tarfile.TarError as error:
        raise ShardError(f"{name}: not a whole tar: {error}") from None
    # tarfile takes a file cut between two members for a short archive: look for the end mark.
    if data[end : end + 2 * TAR_BLOCK] != bytes(2 * TAR_BLOCK):
        raise ShardError(f"{name}: breaks off after {len(found)} pairs: no end-of-archive mark")
    pairs = tuple(_entry(data, key, members, name) for key, members in found.items())
    return ShardIndex(SCHEMA, len(data), sha256(data), pairs)


def read_members(url: str, entry: PairEntry) -> dict[str, bytes]:
    """Return the members of one pair by one ranged read, each checked against its CRC-32.

    Raises:
        OSError: the shard is missing or shorter than the index says.
        ShardError: a member's bytes are not those that were indexed.
    """
    first = min(member.offset for member in entry.members.values())
    last = max(member.offset + member.length for member in entry.members.values())
    span = storage.read_range(url, first, last - first)
    members = {}
    for name, (offset, length, crc) in entry.members.items():
        data = span[offset - first : offset - first + length]
        if zlib.crc32(data) != crc:
            raise ShardError(f"{url}: {entry.key}.{name}: CRC-32 differs from the index")
        members[name] = data
    return members


def audio_member(members: Iterable[str], side: str) -> str:
    """Return the member that holds ``side`` (clean, degraded, noisy), whatever its format."""
    return next(name for name in members if name.partition(".")[0] == side)


def decode_segment(data: bytes, start: int, samples: int, name: str) -> Int16Wave:
    """Return ``samples`` 16-bit samples from ``start`` of a mono FLAC or WAV member.

    Raises:
        ShardError: the member is not audio, not mono at 48 kHz, or ends before that.
    """
    with _open_audio(data, name) as file:
        file.seek(start)
        wave: Int16Wave = file.read(samples, dtype="int16")
    if len(wave) != samples:
        raise ShardError(f"{name}: {len(wave)} samples from {start}, expected {samples}")
    return wave


def count_samples(data: bytes, name: str) -> int:
    """Return how many samples a member really decodes to; raises like :func:`decode_segment`."""
    with _open_audio(data, name) as file:
        # Not in one go: a damaged header may claim 2**36 samples, and room is made for what it claims.
        return sum(len(block) for block in file.blocks(DECODED_AT_ONCE, dtype="int16"))


def to_json(record: Any) -> bytes:
    """Return a record of this module as JSON, the same bytes for equal records."""
    tree = TypeAdapter(type(record)).dump_python(record, mode="json")
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def from_json(schema: type[T], data: bytes, name: str) -> T:
    """Return the record that :func:`to_json` wrote.

    Raises:
        ShardError: ``data`` is something else; the message names the file ``name`` and the field.
    """
    try:
        return TypeAdapter(schema).validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise ShardError(f"{name}: {where}: {first['msg']}") from None


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def _entry(data: bytes, key: str, members: dict[str, Member], name: str) -> PairEntry:
    sides = {member.partition(".")[0] for member in members} - {"pair"}
    if missing := {"clean", "degraded", META_MEMBER} - (sides | members.keys()):
        raise ShardError(f"{name}: {key}: no member {', '.join(sorted(missing))}")
    offset, length, _ = members[META_MEMBER]
    meta = from_json(PairMeta, data[offset : offset + length], f"{name}: {key}.{META_MEMBER}")
    return PairEntry(key, meta.samples, meta.alignment_offset, meta.bandwidth_hz, members)


@contextmanager
def _open_audio(data: bytes, name: str) -> Iterator[soundfile.SoundFile]:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.samplerate != SAMPLE_RATE or file.channels != 1:
                raise ShardError(
                    f"{name}: {file.channels} channels at {file.samplerate} Hz, "
                    f"expected 1 at {SAMPLE_RATE}"
                )
            yield file
    except soundfile.LibsndfileError as error:
        raise ShardError(f"{name}: cannot be decoded: {error}") from None
