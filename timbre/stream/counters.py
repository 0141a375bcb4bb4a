"""What reading took: bytes, requests, copies."""

from typing import NamedTuple


class Counters(NamedTuple):
    """What reading took."""

    bytes: int = 0
    requests: int = 0
    retries: int = 0
    cache_hits: int = 0
    cache_fetches: int = 0
    cache_bypasses: int = 0

    def __add__(self, other: object) -> "Counters":
        """Return the sums."""
        if not isinstance(other, Counters):
            return NotImplemented
        return Counters(*(a + b for a, b in zip(self, other, strict=True)))

    def __sub__(self, other: "Counters") -> "Counters":
        """Return the differences."""
        return Counters(*(a - b for a, b in zip(self, other, strict=True)))
