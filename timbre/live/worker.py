"""A thread that restores hops as they come, and delivers them to the guard."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from timbre.audio import HOP, Wave
from timbre.live.guard import Guard
from timbre.restore.live.restorer import LiveRestorer, restore_blocks

# So many hops may wait. More are not restored at all: they would be late anyway.
MOST_WAITING = 50
# Times are counted by tenths of a millisecond, up to 0.1 s.
BINS_A_MS, BINS = 10, 1000
# The lag of resampling is measured over so many hops.
TRIAL_HOPS = 60


class Worker(threading.Thread):
    """Restores what is put in, in a thread of its own.

    Args:
        restorer: that has not been used yet.
        sample_rate: of the hops, in Hz.
        guard: takes what is restored.

    Attributes:
        error: what ended the thread, if not the end of the signal.
    """

    def __init__(self, restorer: LiveRestorer, sample_rate: int, guard: Guard) -> None:
        super().__init__(name="timbre live", daemon=True)
        self._restorer, self._sample_rate, self._guard = restorer, sample_rate, guard
        self._queue: SimpleQueue[Wave | None] = SimpleQueue()
        # Where hops were left out: the number of samples restored before, and of those left out.
        self._gaps: deque[tuple[int, int]] = deque()
        self._times: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.error: Exception | None = None

    def put(self, hop: Wave) -> None:
        """Take the next ``(channels, hop)`` of the input; this never waits."""
        self._queue.put(hop)

    def end(self) -> None:
        """End the thread after what waits, and wait for it."""
        self._queue.put(None)
        self.join()

    def run(self) -> None:
        """Restore until :meth:`end`."""
        number = gap = 0
        try:
            for wave in restore_blocks(self._restorer, self._hops(), self._sample_rate):
                while wave.shape[1]:
                    samples = wave.shape[1]
                    if self._gaps:
                        samples = min(samples, self._gaps[0][0] - number)
                    if samples:
                        self._guard.deliver(number + gap, wave[:, :samples])
                        number, wave = number + samples, wave[:, samples:]
                    else:
                        gap += self._gaps.popleft()[1]
        except Exception as error:
            self.error = error

    def milliseconds(self, share: float) -> float:
        """Return the time that this share of the hops took at most; 0 where there were none."""
        sums = np.cumsum(self._times)
        return float(np.searchsorted(sums, share * sums[-1]) + 1) / BINS_A_MS if sums[-1] else 0.0

    def _hops(self) -> Iterator[Wave]:
        samples = 0
        while (hop := self._queue.get()) is not None:
            dropped = 0
            while self._queue.qsize() >= MOST_WAITING and hop is not None:
                dropped += hop.shape[1]
                hop = self._queue.get()
            if hop is None:
                return
            if dropped:
                self._gaps.append((samples, dropped))
            samples += hop.shape[1]
            start = time.perf_counter()
            yield hop
            self._count(time.perf_counter() - start)

    def _count(self, seconds: float) -> None:
        self._times[min(int(seconds * 1000 * BINS_A_MS), BINS - 1)] += 1


class Late:
    """A restorer that restores nothing and is as late as another.

    Args:
        channels: of the signal.
        latency_samples: as :class:`LiveRestorer` says it.
    """

    def __init__(self, channels: int, latency_samples: int) -> None:
        self._late = max(latency_samples - (HOP - 1), 0)
        self._whole = HOP if latency_samples else 1
        self._queue: Wave = np.zeros((channels, 0), np.float32)

    def push(self, piece: Wave) -> Wave:
        """Return what a restorer would have ready."""
        self._queue = np.concatenate([self._queue, piece], axis=1)
        samples = max(self._queue.shape[1] - self._late, 0) // self._whole * self._whole
        ready, self._queue = self._queue[:, :samples], self._queue[:, samples:]
        return ready

    def flush(self) -> Wave:
        """Return the rest."""
        return self._queue


def lag_in_hops(latency_samples: int, sample_rate: int, channels: int, hop: int) -> int:
    """Return how many more hops must be in until a hop is restored, at any rate.

    Args:
        latency_samples: of the restorer, at 48 kHz.
        sample_rate: of the hops, in Hz.
        channels: of the signal.
        hop: samples in a hop.
    """
    hops_in = most = samples_out = 0

    def hops() -> Iterator[Wave]:
        nonlocal hops_in, most
        for hops_in in range(1, TRIAL_HOPS + 1):
            yield np.zeros((channels, hop), np.float32)
            most = max(most, hops_in - samples_out // hop)

    for block in restore_blocks(Late(channels, latency_samples), hops(), sample_rate):
        if hops_in == TRIAL_HOPS:
            break
        samples_out += block.shape[1]
    return most
