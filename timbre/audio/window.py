"""Short reads at rising places of a file, from a window that is read at once."""

import io
from typing import BinaryIO

WINDOW_BYTES = 1 << 20


class Window:
    """Bytes of ``file``, a window of it in memory.

    Attributes:
        length: of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.length = file.seek(0, io.SEEK_END)
        self._start, self._data = 0, b""

    def at(self, place: int, size: int) -> bytes:
        """Return ``size`` bytes from a place on; fewer at the end, none behind it."""
        if place >= self.length:  # a chunk may say that it has more bytes than a file can
            return b""
        first = place - self._start
        if first < 0 or first + size > len(self._data):
            self._file.seek(place)
            self._start, self._data = place, self._file.read(max(size, WINDOW_BYTES))
            first = 0
        return self._data[first : first + size]
