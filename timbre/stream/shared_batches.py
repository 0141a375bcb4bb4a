"""Shared memory for batches. Reading processes write into it, the training process reads it.

By hand: PyTorch's queue takes new shared memory for each batch, and that is most of the cost.

Fresh memory for each batch costs most of what handing it over does: its pages are found, cleared,
mapped in two processes and given back. Here the parent makes files in memory before it forks, each
process writes its batches into its own, and a place in it is free again when the last tensor that
shows it is gone in the parent. Whoever keeps tensors keeps them: then new memory is taken.
"""

import mmap
import os
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BYTES = 2  # of a sample
# Two are under way in the loader's queue, one is being filled, one is used, one is copied to a device.
SLOTS = 5


class Shape(NamedTuple):
    """Of a batch: how many sides, pairs, samples."""

    sides: int
    pairs: int
    samples: int


class Loan(NamedTuple):
    """A filled place: whose file it is in, and which part of it."""

    worker: int
    slot: int


class RowPool:
    """A file in memory for each reading process, and a pipe that tells it which parts are free.

    Make it in the parent; the processes must be forked.

    Raises:
        OSError: there are too many open files.
    """

    def __init__(self, workers: int, shape: Shape) -> None:
        self._shape, self._parent = shape, os.getpid()
        bytes_each = SLOTS * BYTES * shape.sides * shape.pairs * shape.samples
        self._files: list[int] = []
        self._free: list[tuple[int, int]] = []
        self._maps: dict[int, NDArray[np.int16]] = {}
        for _ in range(workers):
            self._files.append(os.memfd_create("timbre batches"))
            os.ftruncate(self._files[-1], bytes_each)
            self._free.append(os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
            os.write(self._free[-1][1], bytes(range(SLOTS)))

    @staticmethod
    def is_possible() -> bool:
        """Whether this system has files in memory (Linux) and forks its reading processes."""
        # Not the one in force now: to ask for that is to fix it for the whole program.
        methods = torch.multiprocessing.get_all_start_methods()
        method = torch.multiprocessing.get_start_method(allow_none=True)
        return hasattr(os, "memfd_create") and "fork" in methods and method in (None, "fork")

    def take(self, worker: int) -> Loan | None:
        """In a reading process: return a free place to fill; None if the parent uses them all."""
        try:
            (slot,) = os.read(self._free[worker][0], 1)
        except BlockingIOError:
            return None
        return Loan(worker, slot)

    def place(self, loan: Loan) -> NDArray[np.int16]:
        """In a reading process: return what to fill, ``(sides, pairs, samples)``; anything is in it."""
        place: NDArray[np.int16] = self._map(loan.worker)[loan.slot]
        return place

    def tensors(self, loan: Loan) -> Sequence[Tensor]:
        """In the parent: return the sides, ``(pairs, samples)`` int16 each, of a filled place.

        It is lent out again when none of them, and no view of them, is left.
        """
        place = self._map(loan.worker)[loan.slot]
        # Bound to the pool, which so outlives all that is lent.
        weakref.finalize(place, self._give_back, loan).atexit = False
        return torch.from_numpy(place).unbind(0)

    def _map(self, worker: int) -> NDArray[np.int16]:
        """Return a file's memory, ``(SLOTS, sides, pairs, samples)``."""
        if worker not in self._maps:
            memory = mmap.mmap(self._files[worker], 0)
            self._maps[worker] = np.frombuffer(memory, np.int16).reshape(SLOTS, *self._shape)
        return self._maps[worker]

    def _give_back(self, loan: Loan) -> None:
        if (
            os.getpid() != self._parent
        ):  # a forked child drops its copy of what the parent still has
            return
        os.write(self._free[loan.worker][1], bytes([loan.slot]))

    def __del__(self) -> None:
        for number in [*self._files, *(end for pipe in self._free for end in pipe)]:
            with suppress(OSError):
                os.close(number)
