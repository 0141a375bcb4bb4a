"""A store's file system, each of whose requests ends in time, however slowly it is answered."""

import inspect
from functools import partial
from typing import Any

from fsspec.exceptions import FSTimeoutError

# Of a request beside what its bytes take at the least rate.
REQUEST_SECONDS = 30.0
LEAST_BYTES_PER_SECOND = 100_000
# A listing takes many requests in one call.
LISTING_SECONDS = 3600.0


class BoundedStore:
    """Hands on the methods of a file system; those that ask a store end after ``seconds``.

    A socket's own timeout does not end an answer that comes a byte at a time. File systems of fsspec
    that do not run in its event loop (memory, sftp) are left as they are.

    Args:
        file_system: of fsspec.
        seconds: for a request as a whole; None is ``REQUEST_SECONDS`` and what the bytes may take.
    """

    def __init__(self, file_system: Any, seconds: float | None = None) -> None:
        self._file_system = file_system
        self._seconds = REQUEST_SECONDS if seconds is None else seconds
        self._is_fixed = seconds is not None

    def for_bytes(self, count: int) -> "BoundedStore":
        """Return this store with time for so many bytes, unless its time is fixed."""
        if self._is_fixed:
            return self
        longer = BoundedStore(self._file_system)
        longer._seconds = REQUEST_SECONDS + count / LEAST_BYTES_PER_SECOND
        return longer

    def __getattr__(self, name: str) -> Any:
        """Return what the file system has of this name."""
        attribute = getattr(self._file_system, name)
        if inspect.iscoroutinefunction(getattr(attribute, "__wrapped__", None)):
            seconds = LISTING_SECONDS if name == "find" and not self._is_fixed else self._seconds
            return partial(_ending, attribute, seconds)
        return attribute


def _ending(method: Any, seconds: float, *args: Any, **options: Any) -> Any:
    try:
        return method(*args, timeout=seconds, **options)
    except FSTimeoutError:
        raise TimeoutError(f"no whole answer came in {seconds:.0f} s") from None
