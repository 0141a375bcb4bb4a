"""A file for libsndfile, which loses what its callbacks raise: the first error is kept."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class KeptErrors:
    """Reads, writes and seeks in ``file``; once one of these has failed, ``error`` is what it raised."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: Exception | None = None

    def seek(self, offset: int, whence: int = 0) -> int:
        """Return the new place; -1 where it fails."""
        return self._kept(lambda: int(self._file.seek(offset, whence)), -1)

    def tell(self) -> int:
        """Return the place; -1 where it fails."""
        return self._kept(lambda: int(self._file.tell()), -1)

    def read(self, size: int = -1) -> bytes:
        """Return up to so many bytes; none where it fails."""
        return self._kept(lambda: bytes(self._file.read(size)), b"")

    def write(self, data: bytes) -> int:
        """Write all of ``data`` and return its length; 0 where it fails."""
        return self._kept(lambda: self._write(data), 0)

    def _write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest:  # a raw file stops early where a disk becomes full
            rest = rest[self._file.write(rest) :]
        return len(data)

    def _kept(self, call: Callable[[], T], otherwise: T) -> T:
        try:
            return call()
        except Exception as error:
            self.error = self.error or error
            return otherwise
