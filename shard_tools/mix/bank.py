"""Noises and room responses, decoded once per job into memory that every worker shares."""

import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from shard_tools.mix import mixture as mix
from timbre.audio import Int16Wave, Wave
from timbre.errors import ConfigError
from timbre.memory import granted_memory

THREADS = 4
FULL_SCALE = 32767


class Bank:
    """Recordings end to end in one block of shared memory, each scaled to a peak of full scale.

    A worker process that gets a bank maps the same block. The block is gone with the last process
    that uses it, however that ends. ``edges`` has one more entry than there are recordings.
    """

    def __init__(
        self, samples: Int16Wave, edges: Sequence[int], names: Sequence[str], place: str = ""
    ) -> None:
        """Wrap ``(total,)`` samples; ``place`` is the path at which other processes find them."""
        self.samples = samples
        self.edges = tuple(edges)
        self.names = tuple(names)
        self._place = place

    def wave(self, number: int) -> Wave:
        """Return recording ``number`` as ``(samples,)`` float32."""
        return _to_float(self._recording(number))

    def length(self, number: int) -> int:
        """Return how many samples recording ``number`` has."""
        return self.edges[number + 1] - self.edges[number]

    def stretch(self, number: int, start: int, samples: int) -> Wave:
        """Return ``samples`` of a recording from ``start`` on, as :func:`mix.loop` would of all of it.

        Only the stretch is converted, so an hour of noise costs as little as a minute.
        """
        recording = self._recording(number)
        start %= len(recording)
        beyond = start + samples - len(recording)
        if beyond <= 0:
            return _to_float(recording[start : start + samples])
        # It goes round once at most; the stretch has nothing of what lies between.
        head, tail = beyond + 2 * mix.FADE, min(start, len(recording) - 2 * mix.FADE)
        if head < tail:
            recording = np.concatenate([recording[:head], recording[tail:]])
            start -= tail - head
        return mix.loop(_to_float(recording), start, samples)

    def _recording(self, number: int) -> Int16Wave:
        return self.samples[self.edges[number] : self.edges[number + 1]]

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_bank, (self._place, self.edges, self.names)

    def to_value(self) -> tuple[Int16Wave, tuple[int, ...], tuple[str, ...]]:
        """Return what :meth:`from_value` makes an equal bank of on another machine."""
        return np.asarray(self.samples), self.edges, self.names

    @classmethod
    def from_value(cls, value: tuple[Int16Wave, tuple[int, ...], tuple[str, ...]]) -> "Bank":
        """Return a bank over an array that this process already holds."""
        return cls(*value)


def fill_bank(
    names: Sequence[str], lengths: Sequence[int], read: Callable[[int], Iterable[Wave]], role: str
) -> Bank:
    """Return a bank of ``read(0)``, ``read(1)``, …, whose blocks together have ``lengths[i]`` samples.

    A recording of several blocks is read twice, first for its peak: no more than a block of it is
    ever in memory but in its place.

    Raises:
        ConfigError: there is no memory for them.
    """
    edges = [0, *np.cumsum(lengths, dtype=int).tolist()]
    free = granted_memory()
    if 2 * edges[-1] > free:
        raise ConfigError(
            f"{role}: {edges[-1] / 48000 / 3600:.1f} h of recordings take {2 * edges[-1] / 1e9:.1f} GB "
            f"of memory, and {free / 1e9:.1f} GB are free; use a part of them"
        )
    place, release = _reserve(2 * edges[-1])
    bank = _open_bank(place, tuple(edges), tuple(names))
    weakref.finalize(bank, release)

    def write(number: int) -> None:
        blocks = iter(read(number))
        first = next(blocks)
        peak = max([_peak(first), *map(_peak, blocks)])
        at = edges[number]
        for block in [first] if len(first) == lengths[number] else read(number):
            values = np.rint(block * (FULL_SCALE / (peak or 1.0)))
            bank.samples[at : at + len(block)] = values.astype(np.int16)
            at += len(block)

    with ThreadPoolExecutor(THREADS) as pool:
        numbers = range(len(lengths))
        for _ in tqdm(pool.map(write, numbers), f"load {role}", len(lengths), disable=None):
            pass
    return bank


def _peak(wave: Wave) -> float:
    return float(np.abs(wave).max())


def _to_float(recording: Int16Wave) -> Wave:
    wave: Wave = recording.astype(np.float32) / FULL_SCALE
    return wave


def _reserve(size: int) -> tuple[str, Callable[[], None]]:
    """Return the path of a new block of shared memory, and what gives it back."""
    if hasattr(os, "memfd_create"):
        # Unlike a file in /dev/shm it outlives no killed process, and no container's limit on
        # /dev/shm counts.
        descriptor = os.memfd_create("timbre-bank")
        os.ftruncate(descriptor, size)
        return f"/proc/{os.getpid()}/fd/{descriptor}", lambda: os.close(descriptor)
    descriptor, path = tempfile.mkstemp(prefix="timbre-bank-")
    os.ftruncate(descriptor, size)
    os.close(descriptor)

    def release() -> None:
        with suppress(OSError):
            Path(path).unlink()

    return path, release


def _open_bank(place: str, edges: tuple[int, ...], names: tuple[str, ...]) -> Bank:
    if edges[-1] == 0:  # nothing can be mapped of an empty file
        return Bank(np.empty(0, np.int16), edges, names, place)
    return Bank(np.memmap(place, np.int16, "r+", shape=edges[-1:]), edges, names, place)
