"""The contract between shard creation and training: members, meta, index, manifest.

``SPLIT/shard-NNNNNN.tar`` is a plain WebDataset of ``KEY.clean.flac KEY.degraded.flac
KEY.pair.json`` and, if asked for, ``KEY.noisy.flac``; ``shard-NNNNNN.index`` says where each member
lies, so that one pair is one ranged read; ``manifest.json``, written last, names every shard with
its hash. Readers start from the manifest and never list a folder.
"""

import json
from dataclasses import field
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from timbre.audio import SAMPLE_RATE
from timbre.config import STRICT
from timbre.errors import ShardError

T = TypeVar("T")

SCHEMA = 1
META_MEMBER = "pair.json"

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

    ``degraded[n + alignment_offset]`` lines up with ``clean[n]``; so does ``noisy[n]``, where the
    denoiser's input is stored. Each side holds ``samples`` samples. ``bandwidth_hz`` is that of the clean side. ``noises`` are in order of loudness; a babble
    among them is named ``babble-…``, and ``voices`` are the recordings in it. ``seed`` is what the
    random choices of the whole shard were drawn from. ``variety`` says what else was done to it, in
    shards whose config asks for any.
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
    variety: dict[str, float] = field(default_factory=dict)


@dataclass(config=OPEN)
class PairTiming:
    """What of ``KEY.pair.json`` training cannot do without: all that is asked of foreign shards.

    ``samples`` None is as many as the clean side has; the bandwidth is taken to be full if unknown.
    """

    alignment_offset: int
    samples: int | None = None
    bandwidth_hz: float = SAMPLE_RATE / 2


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


def to_json(record: Any) -> bytes:
    """Return a record of this module as JSON, the same bytes for equal records."""
    tree = TypeAdapter(type(record)).dump_python(record, mode="json")
    if (
        isinstance(record, PairMeta) and not record.variety
    ):  # the same bytes as before there was any
        del tree["variety"]
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
