"""Ranges of files in a store: several GETs in flight, neighbours in one, tried again for a while.

By hand: fsspec's ``cat_ranges`` merges no neighbours in a remote store and has no deadline.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from timbre.storage import files as storage
from timbre.storage.bounded import OpenRequests
from timbre.storage.errors import StoreError
from timbre.storage.retries import Patience

# Bytes that are fetched and thrown away, rather than asking twice.
NEIGHBOUR_GAP = 1 << 16


class Span(NamedTuple):
    """A stretch of a file."""

    url: str
    offset: int
    length: int


# Brings the bytes of all spans, or raises OSError.
ReadMany = Callable[[Sequence[Span]], list[bytes]]


class RemoteReader:
    """Reads ranges; counts what it took.

    Args:
        in_flight: so many GETs run at once, whoever asks for them.
        deadline_seconds: a GET that keeps failing is given up after this.
    """

    def __init__(self, in_flight: int, deadline_seconds: float) -> None:
        self.requests, self.retries, self.bytes = 0, 0, 0
        self.patience = Patience(deadline_seconds, self._pause, OpenRequests())
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="get")
        self._lock = threading.Lock()
        self._is_closed = threading.Event()

    def read_each(self, spans: Sequence[Span]) -> list[bytes | OSError]:
        """Return the bytes of every span, or what is wrong with the file that it is in.

        Raises:
            StoreError: the store, not a file, is the trouble.
        """
        groups = list(merge(spans))
        futures = [self._pool.submit(self._get, group_span(spans, group)) for group in groups]
        results: dict[int, bytes | OSError] = {}
        for group, future in zip(groups, futures, strict=True):
            data = _outcome(future)
            if isinstance(data, bytes):
                first = spans[group[0]].offset
                for number in group:
                    start = spans[number].offset - first
                    results[number] = data[start : start + spans[number].length]
            elif len(group) == 1:
                results[group[0]] = data
            else:  # the file may end between them
                for number in group:
                    results[number] = self.read_each([spans[number]])[0]
        return [results[number] for number in range(len(spans))]

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        """Return the bytes of every span; OSError if any cannot be had."""
        parts: list[bytes] = []
        for data in self.read_each(spans):
            if isinstance(data, OSError):
                raise data
            parts.append(data)
        return parts

    def close(self) -> None:
        """Let go of what is still on its way."""
        self._is_closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.patience.requests.close()

    def _get(self, span: Span) -> bytes:
        data = storage.read_range(span.url, span.offset, span.length, self.patience)
        with self._lock:
            self.requests += 1
            self.bytes += len(data)
        return data

    def _pause(self, seconds: float) -> None:
        if self._is_closed.wait(seconds):
            raise StoreError("closed meanwhile")
        with self._lock:
            self.retries += 1


def merge(spans: Sequence[Span]) -> Iterator[list[int]]:
    """Yield groups of the spans' numbers, by offset, that one GET each is to bring."""
    group: list[int] = []
    end = 0
    for number in sorted(range(len(spans)), key=lambda n: spans[n]):
        span = spans[number]
        if group and (span.url != spans[group[0]].url or span.offset > end + NEIGHBOUR_GAP):
            yield group
            group, end = [], 0
        group.append(number)
        end = max(end, span.offset + span.length)
    if group:
        yield group


def group_span(spans: Sequence[Span], group: Sequence[int]) -> Span:
    """Return the span that holds those of a group."""
    first = spans[group[0]]
    end = max(spans[number].offset + spans[number].length for number in group)
    return Span(first.url, first.offset, end - first.offset)


def _outcome(future: "Future[bytes]") -> bytes | OSError:
    try:
        return future.result()
    except StoreError:
        raise
    except OSError as error:
        return error
