"""Audio files read in blocks from the front, as often as needed: paths, URLs, standard input."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from timbre import storage
from timbre.audio.decode import AudioInfo, channel_blocks, header
from timbre.audio.truncation import check_whole
from timbre.audio.waveform import Wave
from timbre.storage import STANDARD


class Sound(NamedTuple):
    """An open audio file: what errors call it, and what its header says."""

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
    """Open an audio file; ``-`` is standard input, which is copied to a temporary file first.

    Of a remote file only the parts that are read come, when they are read.

    Raises:
        FileNotFoundError, OSError: it cannot be read.
        AudioError: it is no audio, holds no samples, or is shorter than it says.
    """
    name = "standard input" if url == STANDARD else url
    with _file(url) as file:
        check_whole(file, name)
        yield Sound(file, name, header(file, name))


@contextmanager
def _file(url: str) -> Iterator[BinaryIO]:
    if url == STANDARD:
        with tempfile.TemporaryFile(prefix="timbre-") as spooled:
            shutil.copyfileobj(sys.stdin.buffer, spooled)
            yield spooled
        return
    with storage.open_ranged(url, storage.size(url)) as file:
        yield file
