"""A file made of stretches of another file and of bytes of our own."""

import io
from bisect import bisect_right
from typing import NamedTuple, Protocol


class Seekable(Protocol):
    """What stretches can be read of: an open file, or another splice."""

    def seek(self, offset: int, /) -> int:
        """Move to a byte."""

    def read(self, size: int, /) -> bytes:
        """Return ``size`` bytes; fewer only at the end."""


class Stretch(NamedTuple):
    """Bytes ``start`` to ``stop`` of the other file."""

    start: int
    stop: int


class Splice:
    """Reads stretches of ``file`` and bytes one behind the other; ``file`` stays open.

    libsndfile reads one stream with one correct header. With this, a damaged or missing header is
    replaced without a copy of the file.
    """

    def __init__(self, file: Seekable, parts: list[Stretch | bytes]) -> None:
        self._file, self._parts = file, parts
        self._edges = [0]
        for part in parts:
            length = part.stop - part.start if isinstance(part, Stretch) else len(part)
            self._edges.append(self._edges[-1] + length)
        self._place = 0

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move and return the new place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._edges[-1]}[whence]
        self._place = max(base + offset, 0)
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes, or all that follow; fewer only at the end."""
        stop = self._edges[-1]
        if size >= 0:
            stop = min(stop, self._place + size)
        pieces = []
        while self._place < stop:
            piece = self._read_part(stop)
            if not piece:
                break
            pieces.append(piece)
            self._place += len(piece)
        return b"".join(pieces)

    def _read_part(self, stop: int) -> bytes:
        """Return what one part holds from the place on, up to ``stop``."""
        number = bisect_right(self._edges, self._place) - 1
        part = self._parts[number]
        skip, take = (
            self._place - self._edges[number],
            min(stop, self._edges[number + 1]) - self._place,
        )
        if isinstance(part, bytes):
            return part[skip : skip + take]
        self._file.seek(part.start + skip)
        return self._file.read(take)
