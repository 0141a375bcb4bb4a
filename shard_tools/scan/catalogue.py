"""One row a recording: what the sources' files hold, and how a stretch of one is read."""

import io
import json
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from timbre import audio, storage
from timbre.audio import SILENCE_DB, Wave
from timbre.config import STRICT
from timbre.errors import AudioError, ShardError
from timbre.shards import Split

# A file up to this size is fetched whole and its hash compared at every reading.
WHOLE_BYTES = 1 << 26


@dataclass(config=STRICT, slots=True)
class Clip:
    """One recording: a row of a catalogue.

    ``samples``, ``speech_start`` and ``speech_stop`` count at 48 kHz; between the latter two lies
    everything within 40 dB of the loudest 20 ms, whose mean level is ``level_db`` (dBFS). ``refused``
    is why the clip takes no part: unreadable, silent, cancelled (by its channels), too_short, quiet,
    narrow_band, loud_pauses, spare, surplus, duplicate. ``kind`` and ``source`` are the manifest's,
    where noises are split by them. ``offset`` is a constant that lies under the sound, where there is
    one; it is taken away wherever the clip is read.
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
    offset: float | None = None

    @property
    def owner(self) -> str:
        """Whose voice it is: the speaker, or the recording itself where nobody named one."""
        return self.speaker or self.path


def read_stretch(url: str, clip: Clip, start: int, samples: int) -> Wave:
    """Return ``(samples,)`` mono at 48 kHz of a clip, from ``start`` on, silence outside it.

    Raises:
        ShardError: it is gone, or not the file that was scanned.
    """
    try:
        with open_clip(url, clip) as file:
            wave = audio.read_stretch(file, url, start, samples)
    except AudioError as error:
        raise ShardError(f"{error}; it was readable when it was scanned") from None
    if clip.offset is not None:
        inside = slice(max(-start, 0), max(clip.samples - start, 0))
        wave[inside] -= np.float32(clip.offset)
    return wave


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
