"""What the files of a source hold: each is measured once and told in one row of a catalogue.

A scan goes through the files in parts. Each part is published when it is done, under a name that
depends on the files in it, so that a scan that was killed, or was shared by many machines, or finds
a few files more than the last one, measures only the parts that nobody has measured.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from shard_tools.scan.bandwidth import band_levels, bandwidth_of_levels
from shard_tools.scan.sources import File
from timbre import audio, storage
from timbre.audio import SAMPLE_RATE, SILENCE_DB, SPEECH_RANGE_DB, WORKING_LEVEL_DB, AudioInfo, Wave
from timbre.config import STRICT
from timbre.errors import AudioError, ShardError
from timbre.shards import Split

# Raised when a row would say something else of the same file.
SCAN_VERSION = 1
# How large a part is on average, in files or in bytes, whichever comes first.
FILES_PER_PART = 64
BYTES_PER_PART = 1 << 28
# A file up to this size is fetched whole and its hash compared at every reading.
WHOLE_BYTES = 1 << 26

BLOCK_SECONDS = 30.0
# An hour's bandwidth is known from ten minutes of it.
BANDWIDTH_BLOCKS = 20
FRAMES_PER_SECOND = 50


@dataclass(config=STRICT, slots=True)
class Clip:
    """One recording: a row of a catalogue.

    ``samples``, ``speech_start`` and ``speech_stop`` count at 48 kHz; between the latter two lies
    everything within 40 dB of the loudest 20 ms, whose mean level is ``level_db`` (dBFS). ``refused``
    is why the clip takes no part: unreadable, silent, too_short, quiet, narrow_band, loud_pauses, spare, duplicate. ``kind`` and ``source`` are the
    manifest's, where noises are split by them.
    """

    path: str
    bytes: int
    sha256: str
    samples: int = 0
    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    format: str = ""
    bandwidth_hz: float = 0.0
    level_db: float = SILENCE_DB
    speech_start: int = 0
    speech_stop: int = 0
    speaker: str | None = None
    licence: str | None = None
    split: Split | None = None
    refused: str | None = None
    detail: str | None = None
    kind: str | None = None
    source: str | None = None

    @property
    def owner(self) -> str:
        """Whose voice it is: the speaker, or the recording itself where nobody named one."""
        return self.speaker or self.path


class Part(NamedTuple):
    """Some files of a source; ``name`` is where their rows are kept, beside other parts'."""

    name: str
    role: str
    files: tuple[File, ...]


def cut_into_parts(files: Sequence[File], role: str) -> list[Part]:
    """Return the parts of a scan; adding or removing a file changes only the part it is in.

    So whether a part ends after a file is decided by that file alone: by a hash of its path, the
    more likely the larger the file.
    """
    parts: list[list[File]] = [[]]
    for file in files:
        parts[-1].append(file)
        share = 1 / FILES_PER_PART + file.bytes / BYTES_PER_PART
        if zlib.crc32(file.path.encode()) < share * 2**32:
            parts.append([])
    return [Part(_part_name(part, role), role, tuple(part)) for part in parts if part]


def scan_part(folder: str, part: Part) -> None:
    """Measure the files of a part and publish their rows below ``folder``, if nobody has yet."""
    url = storage.join(folder, part.name)
    if not storage.exists(url):
        rows = [measure(file, with_bandwidth=part.role == "speech") for file in part.files]
        storage.publish(url, dump_rows(rows))


def measure(file: File, with_bandwidth: bool = True) -> Clip:
    """Return the row of a file, ``refused`` if it is unreadable or silent.

    The file is decoded to its end, in blocks, so that its length does not matter.

    Raises:
        OSError: the store does not give it.
    """
    blank = Clip(file.path, file.bytes, "")
    try:
        with _open(file) as opened:
            blank = replace(blank, sha256=_hash(opened))
            header = audio.header(opened, file.url)
            if header.sample_rate < FRAMES_PER_SECOND:
                raise AudioError(f"{file.url}: a sample rate of {header.sample_rate} Hz")
            levels, powers = _levels(opened, file.url, header, with_bandwidth)
    except AudioError as error:
        return replace(blank, refused="unreadable", detail=str(error))
    described = replace(
        blank,
        samples=-(-header.samples * SAMPLE_RATE // header.sample_rate),
        seconds=round(header.samples / header.sample_rate, 3),
        sample_rate=header.sample_rate,
        channels=header.channels,
        format=f"{header.format}/{header.subtype}",
    )
    active = np.flatnonzero(powers > powers.max(initial=0.0) * 10 ** (-SPEECH_RANGE_DB / 10))
    if not len(active):
        return replace(described, refused="silent")
    level_db = 10 * float(np.log10(powers[active].mean()))
    frame = header.sample_rate // FRAMES_PER_SECOND * SAMPLE_RATE / header.sample_rate
    return replace(
        described,
        level_db=round(level_db, 2),
        # Bandwidth is judged at the level at which the clip will be used.
        # Bandwidth is judged at the level at which the clip will be used.
        # Bandwidth is judged at the level at which the clip will be used.
        bandwidth_hz=bandwidth_of_levels(levels + np.float32(WORKING_LEVEL_DB - level_db)),
        speech_start=int(active[0] * frame),
        speech_stop=min(int((active[-1] + 1) * frame), described.samples),
    )


def read_stretch(url: str, clip: Clip, start: int, samples: int) -> Wave:
    """Return ``(samples,)`` mono at 48 kHz of a clip, from ``start`` on, silence outside it.

    Raises:
        ShardError: it is gone, or not the file that was scanned.
    """
    try:
        with open_clip(url, clip) as file:
            return audio.read_stretch(file, url, start, samples)
    except AudioError as error:
        raise ShardError(f"{error}; it was readable when it was scanned") from None


def open_clip(url: str, clip: Clip) -> BinaryIO:
    """Return a clip's open file; raises like :func:`read_stretch`."""
    try:
        if clip.bytes > WHOLE_BYTES:
            return storage.open_ranged(url, clip.bytes)
        data = storage.read(url)
    except FileNotFoundError:
        raise ShardError(
            f"{url}: gone since it was scanned; put it back, or the source where it was, so that "
            "what was planned with it can be finished"
        ) from None
    if storage.sha256(data) != clip.sha256:
        raise ShardError(
            f"{url}: changed since it was scanned ({len(data)} bytes, were {clip.bytes}); put the "
            "scanned file back, or choose another output"
        )
    return io.BytesIO(data)


def dump_rows(clips: Iterable[Clip]) -> bytes:
    """Return a catalogue as JSON lines, without what is empty; the same bytes for equal clips."""
    adapter = TypeAdapter(Clip)
    lines = [
        json.dumps(adapter.dump_python(clip, exclude_none=True), ensure_ascii=False)
        for clip in clips
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def load_rows(data: bytes, name: str) -> list[Clip]:
    """Return the clips of a catalogue; ShardError names the file and line of a bad one."""
    adapter = TypeAdapter(Clip)
    clips = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            clips.append(adapter.validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "the row"
            raise ShardError(f"{name}, line {number}: {key}: {first['msg']}") from None
    return clips


def _part_name(files: Sequence[File], role: str) -> str:
    told = [(file.path, file.bytes, file.stamp) for file in files]
    return f"{role}-{storage.sha256(json.dumps([SCAN_VERSION, told]).encode())[:24]}.jsonl"


def _open(file: File) -> BinaryIO:
    if file.bytes > WHOLE_BYTES:
        return storage.open_ranged(file.url, file.bytes)
    return io.BytesIO(storage.read(file.url))


def _hash(opened: BinaryIO) -> str:
    digest = hashlib.sha256()
    while data := opened.read(1 << 20):
        digest.update(data)
    return digest.hexdigest()


def _levels(
    opened: BinaryIO, name: str, header: AudioInfo, with_bandwidth: bool
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the band levels of some of a file's blocks, and the power of all its 20-ms frames."""
    bands, powers = [np.empty((0, 0), np.float32)], [np.empty(0)]
    frame = header.sample_rate // FRAMES_PER_SECOND
    count = -(-header.samples // round(BLOCK_SECONDS * header.sample_rate))
    every = -(-count // BANDWIDTH_BLOCKS)
    for number, block in enumerate(audio.mono_blocks(opened, name, BLOCK_SECONDS)):
        if number == 0:  # whether it can be, for those too that need no bandwidth
            audio.resample(block[:frame], header.sample_rate, SAMPLE_RATE)
        padded = np.pad(block - block.mean(), (0, -len(block) % frame))
        powers.append(np.square(padded, dtype=np.float64).reshape(-1, frame).mean(axis=1))
        if with_bandwidth and number % every == 0:
            bands.append(band_levels(audio.resample(block, header.sample_rate, SAMPLE_RATE)))
    return np.concatenate(bands[1:] or bands), np.concatenate(powers)
