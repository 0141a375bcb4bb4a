"""An audio file that is known to be whole, read from the front as often as needed."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from timbre import storage
from timbre.audio.decode import AudioInfo, channel_blocks, header
from timbre.audio.waveform import Wave
from timbre.storage import STANDARD


class Sound(NamedTuple):
    """An open audio file: its name in errors, and what it holds."""

    file: BinaryIO
    name: str
    info: AudioInfo

    def blocks(self, samples: int) -> Iterator[Wave]:
        """Yield its channels from the beginning, ``(channels, samples)``, so many at a time.

        Raises:
            AudioError: it breaks off, or holds NaN or infinite samples.
        """
        return channel_blocks(self.file, self.name, samples)


@contextmanager
def open_sound(url: str) -> Iterator[Sound]:
    """Open an audio file: a path, a URL, a named pipe, or ``-`` for standard input.

    What comes out of a pipe is copied to a temporary file first. Of a remote file only the parts that
    are read come, when they are read.

    Raises:
        FileNotFoundError, OSError: it cannot be read.
        AudioError: it is no audio, holds no samples, or is shorter than it says.
    """
    name = "standard input" if url == STANDARD else url
    with _file(url) as file:
        yield Sound(file, name, header(file, name))


@contextmanager
def _file(url: str) -> Iterator[BinaryIO]:
    if url == STANDARD:
        with _copy(sys.stdin.buffer) as file:
            yield file
    elif storage.is_local(url) and storage.local_path(url).is_fifo():
        with storage.local_path(url).open("rb") as pipe, _copy(pipe) as file:
            yield file
    else:
        with storage.open_ranged(url, storage.size(url)) as file:
            yield file


@contextmanager
def _copy(pipe: BinaryIO) -> Iterator[BinaryIO]:
    """Copy a pipe, in which nobody can go back, to a temporary file."""
    with tempfile.TemporaryFile(prefix="timbre-") as file:
        shutil.copyfileobj(pipe, file)
        yield file
