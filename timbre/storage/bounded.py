"""A store's file system, each of whose requests ends in time, however slowly it is answered."""

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent import futures
from functools import partial
from typing import Any

from fsspec.asyn import AsyncFileSystem

from timbre.storage.errors import StoreError

# Of a request beside what its bytes take at the least rate.
REQUEST_SECONDS = 30.0
LEAST_BYTES_PER_SECOND = 100_000
# A listing takes many requests in one call.
LISTING_SECONDS = 3600.0


class OpenRequests:
    """The requests that wait for an answer. After :meth:`close` there are none, nor new ones."""

    def __init__(self) -> None:
        self._open: set[futures.Future[Any]] = set()
        self._is_closed = False
        self._lock = threading.Lock()

    def result(self, request: "futures.Future[Any]", seconds: float) -> Any:
        """Return a request's answer.

        Raises:
            TimeoutError: it did not come in so many seconds; or the library gave it up.
            StoreError: it was given up by :meth:`close`.
            Exception: whatever else the request raised.
        """
        with self._lock:
            self._open.add(request)
            if self._is_closed:
                request.cancel()
        try:
            return request.result(seconds)
        except futures.CancelledError:
            raise StoreError("closed meanwhile") from None
        except futures.TimeoutError:
            if request.done():
                raise
            raise TimeoutError(f"no whole answer came in {seconds:.0f} s") from None
        finally:
            request.cancel()
            with self._lock:
                self._open.discard(request)

    def close(self) -> None:
        """Give up what is open, so that no thread waits for a store that nobody needs any more."""
        with self._lock:
            self._is_closed = True
            still_open = list(self._open)
        for request in still_open:
            request.cancel()


class BoundedStore:
    """Hands on the methods of a file system; those that ask a store end after ``seconds``.

    A socket's own timeout does not end an answer that comes a byte at a time. File systems of fsspec
    that do not run in its event loop (memory, sftp) are left as they are.

    Args:
        file_system: of fsspec.
        seconds: for a request as a whole; None is ``REQUEST_SECONDS`` and what the bytes may take.
        requests: where those that are open are noted.
    """

    def __init__(
        self, file_system: Any, seconds: float | None = None, requests: OpenRequests | None = None
    ) -> None:
        self._file_system = file_system
        self._seconds = REQUEST_SECONDS if seconds is None else seconds
        self._is_fixed = seconds is not None
        self._requests = requests or OpenRequests()

    def for_bytes(self, count: int) -> "BoundedStore":
        """Return this store with time for so many bytes, unless its time is fixed."""
        if self._is_fixed:
            return self
        longer = BoundedStore(self._file_system, None, self._requests)
        longer._seconds = REQUEST_SECONDS + count / LEAST_BYTES_PER_SECOND
        return longer

    def __getattr__(self, name: str) -> Any:
        """Return what the file system has of this name."""
        attribute = getattr(self._file_system, name)
        # What fsspec waits for itself, without an end that we could bring about.
        coroutine = getattr(attribute, "__wrapped__", None)
        if not inspect.iscoroutinefunction(coroutine):
            return attribute
        if inspect.ismethod(attribute):
            coroutine = partial(coroutine, attribute.__self__)
        seconds = LISTING_SECONDS if name == "find" and not self._is_fixed else self._seconds
        return partial(self._ask, coroutine, seconds)

    def has_loop(self) -> bool:
        """Return whether the file system runs in fsspec's event loop."""
        return isinstance(self._file_system, AsyncFileSystem)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what ``await function(file_system, *args)`` does, in the file system's event loop."""
        return self._ask(partial(function, self._file_system), self._seconds, *args)

    def _ask(self, method: Callable[..., Any], seconds: float, *args: Any, **options: Any) -> Any:
        loop = self._file_system.loop
        request = asyncio.run_coroutine_threadsafe(method(*args, **options), loop)
        return self._requests.result(request, seconds)
