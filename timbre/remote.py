"""Byte ranges of files in a store."""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """``length`` bytes from ``offset`` of a file."""

    url: str
    offset: int
    length: int


# Several requests in flight, each retried; raises OSError.
ReadMany = Callable[[Sequence[Span]], list[bytes]]
