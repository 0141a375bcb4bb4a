"""libsndfile, guarded: its callbacks' exceptions are kept, its errors are ours, lengths are known."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import soundfile

from timbre.errors import AudioError

# What libsndfile says of a FLAC stream that came out of a pipe.
UNKNOWN_LENGTH = 1 << 62

# How files begin that libsndfile does not read: at which byte, with what, and what they are.
OTHERS = (
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (0, b"#!AMR", "AMR"),
    (28, b"\x7fFLAC", "FLAC in Ogg"),
    (28, b"Speex   ", "Speex in Ogg"),
    (8, b"AVI ", "AVI"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
)

T = TypeVar("T")


class Sequential(soundfile.SoundFile):  # type: ignore[misc] # it has no types
    """A sound read from the front to the end.

    soundfile seeks after each read where it can, and then a decoder starts anew.
    """

    def seekable(self) -> bool:
        """Whether soundfile may seek: never."""
        return False


@contextmanager
def opened_audio(
    file: Any, name: str, kind: type[soundfile.SoundFile] = soundfile.SoundFile
) -> Iterator[soundfile.SoundFile]:
    """Open a sound in libsndfile; ``name`` is for errors.

    Raises:
        AudioError: libsndfile cannot read it, or it holds no samples.
        OSError: ``file`` cannot be read.
    """
    source = KeptErrors(file)
    source.seek(0)
    try:
        with kind(source) as stream:
            if stream.frames == 0 or stream.channels == 0:
                raise AudioError(f"{name}: holds no samples")
            if stream.frames >= UNKNOWN_LENGTH:
                raise AudioError(f"{name}: does not tell its length; write it again as a file")
            yield stream
    except (soundfile.LibsndfileError, AudioError) as error:
        if source.error:
            raise source.error from None
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name}: {_reason(source, error)}") from None
    if source.error:
        raise source.error


def reason_of(error: Exception) -> str:
    """Return what libsndfile says, without the file object that it names."""
    return str(error).rsplit(": ", 1)[-1]


def _reason(source: "KeptErrors", error: Exception) -> str:
    source.seek(0)
    head = source.read(64)
    for place, mark, kind in OTHERS:
        if head[place:].startswith(mark):
            return f"{kind}, which libsndfile does not read; try: ffmpeg -i IN OUT.flac"
    return f"not readable as audio: {reason_of(error)}"


class KeptErrors:
    """A file object for libsndfile, which drops the exceptions of its callbacks.

    Attributes:
        error: the first exception, or None.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: Exception | None = None

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move and return the new place; -1 where the file fails."""
        return self._keep_error(lambda: self._seek(offset, whence), -1)

    def tell(self) -> int:
        """Return the place; -1 where the file fails."""
        return self._keep_error(lambda: int(self._file.tell()), -1)

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes; none where the file fails."""
        return self._keep_error(lambda: bytes(self._file.read(size)), b"")

    def write(self, data: bytes) -> int:
        """Write all of ``data`` and return its length; 0 where the file fails."""
        return self._keep_error(lambda: self._write(data), 0)

    def _seek(self, offset: int, whence: int) -> int:
        try:
            return int(self._file.seek(offset, whence))
        except ValueError:  # before the start, where a damaged header leads: no failure of the file
            return -1

    def _write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:  # a raw file stops early where a disk becomes full
            rest = rest[self._file.write(rest) :]
        return len(data)

    def _keep_error(self, call: Callable[[], T], otherwise: T) -> T:
        try:
            return call()
        except Exception as error:
            self.error = self.error or error
            return otherwise
