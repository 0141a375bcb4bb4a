"""One audio file, opened: all of the streams in it, one behind the other."""

from bisect import bisect_right
from contextlib import ExitStack
from itertools import accumulate
from types import TracebackType
from typing import BinaryIO

import numpy as np
import soundfile

from timbre.audio import chunks, flac, mpeg, ogg
from timbre.audio.chunks import Layout
from timbre.audio.libsndfile import opened_audio
from timbre.audio.splice import Splice, Stretch
from timbre.audio.waveform import Wave
from timbre.errors import AudioError

WINDOW_BYTES = 1 << 20
# A FLAC file's mark, and the head of the block that must follow it: STREAMINFO, 34 bytes.
FLAC_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")


def layout_of(file: BinaryIO, name: str) -> Layout:
    """Return which streams an audio file holds.

    Raises:
        AudioError: it breaks off, or is damaged.
    """
    layout = chunks.layout_of(file, name)
    if layout is not None:
        return layout
    links = flac.links_of(file, name) or ogg.links_of(file, name) or mpeg.links_of(file, name)
    return Layout(links or [Splice(file, [Stretch(0, file.seek(0, 2))])])


def check_single(file: BinaryIO, name: str) -> None:
    """Raise AudioError where a FLAC file follows another in one file; libsndfile reads the first."""
    file.seek(0)
    data, before = file.read(WINDOW_BYTES), 0
    if data[:8] not in FLAC_STARTS:
        return
    rest = data[1:]
    while rest:
        for start in FLAC_STARTS:
            if (place := rest.find(start)) >= 0:
                at = before + place + 1
                raise AudioError(
                    f"{name}: another FLAC file begins in it at byte {at}; split it there"
                )
        before += len(rest) - 7
        more = file.read(WINDOW_BYTES)
        rest = rest[-7:] + more if more else b""


class WholeSound:
    """The sound of a file as one signal, for a ``with`` statement.

    Attributes:
        frames, samplerate, channels, format, subtype: as libsndfile names them; of all streams.
        note: what a user should know of the file, or None.

    Raises:
        AudioError: it is no audio, breaks off, holds no samples, or streams in it differ in layout.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        kind: type[soundfile.SoundFile] = soundfile.SoundFile,
    ) -> None:
        layout = layout_of(file, name)
        self._links, self._name, self._kind = layout.links, name, kind
        self.note = layout.note
        self._stack, self._number, self._place = ExitStack(), -1, 0
        headers = [self._header(number) for number in range(len(self._links))]
        layouts = {header[1:] for header in headers}
        if len(layouts) > 1:
            self._stack.close()
            raise AudioError(
                f"{name}: holds sounds of different layouts {sorted(layouts)}; split it"
            )
        self.samplerate, self.channels, self.format, self.subtype = headers[0][1:]
        lengths = [header[0] for header in headers]
        if layout.samples is not None:
            lengths = [min(lengths[0], layout.samples)]
        self._edges = [0, *accumulate(lengths)]
        self.frames = self._edges[-1]

    def __enter__(self) -> "WholeSound":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def read(self, frames: int) -> Wave:
        """Return the next ``(frames, channels)``; fewer where the sound ends or breaks off."""
        blocks: list[Wave] = []
        while frames > 0 and self._place < self.frames:
            self._open(bisect_right(self._edges, self._place) - 1)
            take = min(frames, self._edges[self._number + 1] - self._place)
            block = self._sound.read(take, dtype="float32", always_2d=True)
            blocks.append(block)
            self._place += len(block)
            frames -= len(block)
            if len(block) < take:
                break
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate(blocks) if blocks else np.empty((0, self.channels), np.float32)

    def seek(self, frame: int) -> None:
        """Go on reading at a frame."""
        self._open(min(bisect_right(self._edges, frame), len(self._links)) - 1)
        self._sound.seek(frame - self._edges[self._number])
        self._place = frame

    def _header(self, number: int) -> tuple[int, int, int, str, str]:
        self._open(number)
        sound = self._sound
        return sound.frames, sound.samplerate, sound.channels, sound.format, sound.subtype

    def _open(self, number: int) -> None:
        """Make a stream the open one, at its beginning; nothing if it is open."""
        if number == self._number:
            return
        self._stack.close()
        self._sound = self._stack.enter_context(
            opened_audio(self._links[number], self._name, self._kind)
        )
        self._number = number
