"""The contract between shard creation and training: members, meta, index, manifest.

``SPLIT/shard-NNNNNN.tar`` is a plain WebDataset of ``KEY.clean.flac KEY.degraded.flac
KEY.pair.json`` and, if asked for, ``KEY.noisy.flac``; ``shard-NNNNNN.index`` says where each member
lies, so that one pair is one ranged read; ``manifest.json``, written last, names every shard with
its hash. Readers start from the manifest and never list a folder.
"""

import json
from dataclasses import field
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from timbre.audio import SAMPLE_RATE
from timbre.config import STRICT
from timbre.errors import ShardError

T = TypeVar("T")

# What numbers can be true at all; the largest are years of sound and stores that nobody has. A file
# that says more is damaged, or lies, and must not make a reader take memory or time for it.
MAX_PAIRS, MAX_SAMPLES, MAX_BYTES = 2**20, 2**40, 2**50
Pairs = Annotated[int, Field(ge=0, le=MAX_PAIRS)]
Samples = Annotated[int, Field(ge=0, le=MAX_SAMPLES)]
SampleOffset = Annotated[int, Field(ge=-MAX_SAMPLES, le=MAX_SAMPLES)]
Bytes = Annotated[int, Field(ge=0, le=MAX_BYTES)]
Seconds = Annotated[float, Field(ge=0, le=MAX_SAMPLES / SAMPLE_RATE)]
Hertz = Annotated[float, Field(gt=0, le=1e6)]
Crc32 = Annotated[int, Field(ge=0, lt=2**32)]
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]

SCHEMA = 1
META_MEMBER = "pair.json"
SIDES = ("degraded", "clean")
NOISY_SIDES = ("degraded", "clean", "noisy")

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
    shards whose config asks for any; ``codec`` what the noisy side went through, "" nothing.
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
    codec: str = ""


@dataclass(config=OPEN)
class PairTiming:
    """What of ``KEY.pair.json`` training cannot do without: all that is asked of foreign shards.

    ``samples`` None is as many as the clean side has; the bandwidth is taken to be full if unknown.
    """

    alignment_offset: SampleOffset
    samples: Samples | None = None
    bandwidth_hz: Hertz = SAMPLE_RATE / 2


class Member(NamedTuple):
    """Where the bytes of one member lie in the tar, and their CRC-32."""

    offset: Bytes
    length: Bytes
    crc32: Crc32


@dataclass(config=STRICT)
class PairEntry:
    """One pair in a shard's index."""

    key: str
    samples: Samples
    alignment_offset: SampleOffset
    bandwidth_hz: Hertz
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
    tar_bytes: Bytes
    tar_sha256: Sha256
    pairs: tuple[PairEntry, ...]
    plan: str = ""
    rejected: dict[str, tuple[Rejection, ...]] = field(default_factory=dict)


def _inside(path: str) -> str:
    """Return a path that leads to a file below the manifest's folder, and nowhere else."""
    parts = path.split("/")
    if "\0" in path or "::" in path or ":" in parts[0] or not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError("expected a path below the manifest's folder, as train/shard-000000.tar")
    return path


@dataclass(config=STRICT)
class ShardEntry:
    """One shard in the manifest; ``path`` is relative to the manifest's folder."""

    path: Annotated[str, AfterValidator(_inside)]
    pairs: Pairs
    bytes: Bytes
    seconds: Seconds
    sha256: Sha256
    index_sha256: Sha256


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
    save_segment_seconds: Seconds
    splits: dict[str, tuple[ShardEntry, ...]]
    rejected: dict[str, int]
    clips: dict[str, dict[str, int]]
    hashes: dict[str, str]
    config: dict[str, Any]

    def shards(self, split: str) -> tuple[ShardEntry, ...]:
        """Return the shards of a split; ShardError if it has none."""
        if not self.splits.get(split):
            splits = ", ".join(name for name, shards in self.splits.items() if shards) or "none"
            raise ShardError(f"no shards in split {split!r}; splits with shards: {splits}")
        return self.splits[split]


def to_json(record: Any) -> bytes:
    """Return a record of this module as JSON, the same bytes for equal records."""
    tree = TypeAdapter(type(record)).dump_python(record, mode="json")
    if isinstance(record, PairMeta):  # the same bytes as before there was any
        for name in ("variety", "codec"):
            if not tree[name]:
                del tree[name]
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
        value = f" {first['input']!r:.80}" if isinstance(first["input"], int | float | str) else ""
        raise ShardError(
            f"{name}: {where}{value if where != 'file' else ''}: {first['msg']}"
        ) from None
