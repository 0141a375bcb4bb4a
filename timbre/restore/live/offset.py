"""A constant offset under a live signal, taken out while it is measured."""

import numpy as np
from numpy.typing import NDArray

from timbre.audio import HOP, WORKING_LEVEL_DB, Wave, gain

# The mean goes over all that came, at most so many hops: 4 s.
MEMORY_HOPS = 400
# A smaller offset changes what the networks leave of a voice at the working level by -31 dB or less.
LEAST = gain(WORKING_LEVEL_DB - 40)
# Earlier a mean counts only if it is so many standard errors from 0: syllables have means, too.
CERTAIN_HOPS, ERRORS = 200, 6.0
# What the standard error is measured between: 1 ms.
BLOCK = 48


class OffsetRemover:
    """Takes each row's offset out of a signal that comes in pieces, however it is cut.

    It is a high-pass of one pole at 0.04 Hz, whose state is the mean; while less than 4 s came, the
    mean is over all of it. A row is as it was until its mean counts: most signals keep their bits.

    Args:
        rows: of the signal, each treated alone.
    """

    def __init__(self, rows: int) -> None:
        self._rest: Wave = np.zeros((rows, 0), np.float32)
        self._hops = 0
        self._means, self._squares = np.zeros((2, rows))
        self._counts = np.zeros(rows, bool)
        self._removed = np.zeros(rows)

    def push(self, piece: Wave) -> Wave:
        """Return what is ready, ``(rows, whole hops)``.

        Args:
            piece: the next ``(rows, any)``.
        """
        joined = np.concatenate([self._rest, piece], axis=1) if self._rest.size else piece
        whole = joined.shape[1] // HOP * HOP
        self._rest = joined[:, whole:]
        hops = [self._hop(joined[:, first : first + HOP]) for first in range(0, whole, HOP)]
        return np.concatenate(hops, axis=1) if len(hops) > 1 else hops[0] if hops else joined[:, :0]

    def flush(self) -> Wave:
        """Return the rest, ``(rows, less than a hop)``; the signal is over."""
        return self._less(self._rest, self._removed[:, None])

    def _hop(self, hop: Wave) -> Wave:
        before, first = self._removed, self._hops == 0
        self._measure(hop.reshape(len(hop), -1, BLOCK).mean(axis=2, dtype=np.float64))
        self._removed = np.where(self._counts, self._means, 0.0)
        if first:
            before = self._removed
        # From hop to hop it goes in a straight line, as a step would click.
        way = np.arange(1, HOP + 1) / HOP
        return self._less(hop, before[:, None] + (self._removed - before)[:, None] * way)

    def _measure(self, blocks: NDArray[np.float64]) -> None:
        """Take the means ``(rows, blocks)`` of a hop in, and see which rows have an offset."""
        self._hops += 1
        hops = min(self._hops, MEMORY_HOPS)
        self._means = self._means + (blocks.mean(axis=1) - self._means) / hops
        self._squares = self._squares + (np.square(blocks).mean(axis=1) - self._squares) / hops
        variance = np.maximum(self._squares - self._means**2, 0.0)
        least = ERRORS * np.sqrt(variance / (hops * blocks.shape[1] - 1))
        if self._hops >= CERTAIN_HOPS:
            least[:] = 0
        self._counts = self._counts | (np.abs(self._means) > np.maximum(least, LEAST))

    def _less(self, wave: Wave, offsets: NDArray[np.float64]) -> Wave:
        return wave - offsets.astype(np.float32) if self._counts.any() else wave
