"""A file in a store as a seekable stream, of which only what is read is fetched."""

import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# A seek in a FLAC costs a few blocks; a smaller block costs more requests in a straight read.
BLOCK_BYTES = 2**20


class RangedFile(io.RawIOBase):
    """``length`` bytes, fetched by ``fetch(offset, length)``, which returns them all or raises."""

    def __init__(self, fetch: Callable[[int, int], bytes], length: int) -> None:
        self._fetch = fetch
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset, from the start, from here, or from the end; return the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise ValueError(f"seek to {start + offset}, before the start of the file")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer as far as the file goes; return how many bytes that were."""
        view = memoryview(buffer).cast("B")
        count = max(min(len(view), self._length - self._position), 0)
        if count:
            view[:count] = self._fetch(self._position, count)
        self._position += count
        return count


def buffer_ranges(fetch: Callable[[int, int], bytes], length: int) -> io.BufferedReader:
    """Return a file of ``length`` bytes that fetches a block at a time."""
    return io.BufferedReader(RangedFile(fetch, length), BLOCK_BYTES)
