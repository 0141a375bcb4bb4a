"""One side of a batch, filled row by row: in a reading process where its parent finds it uncopied."""

import os

import torch
from torch.multiprocessing import get_sharing_strategy
from torch.utils.data import get_worker_info

from timbre.audio import Int16Wave
from timbre.store_errors import StoreError

BYTES = 2  # of a sample


class SideRows:
    """``tensor`` is ``(pairs, samples)`` int16; rows that are written shorter end in silence."""

    def __init__(self, pairs: int, samples: int) -> None:
        self.tensor = torch.empty(0, dtype=torch.int16)
        self._file: int | None = None
        shared_by: str = get_sharing_strategy()  # type: ignore[no-untyped-call]
        if get_worker_info() is not None and shared_by == "file_descriptor":
            memory = torch.UntypedStorage._new_shared(BYTES * pairs * samples)  # type: ignore[no-untyped-call]
            self._file = memory._share_fd_cpu_()[0]
            self.tensor.set_(memory, 0, (pairs, samples))  # type: ignore[call-overload]
        else:
            self.tensor = torch.zeros(pairs, samples, dtype=torch.int16)

    def write(self, row: int, wave: Int16Wave) -> None:
        """Write ``(up to samples,)`` at the beginning of a row.

        Raises:
            StoreError: there is no shared memory left.
        """
        if self._file is None:
            self.tensor.numpy()[row, : len(wave)] = wave
            return
        # Into the file that the memory is: the kernel fills pages for half of what it costs to map
        # each when it is touched, and a full /dev/shm is an error, not the end of the process.
        try:
            written = os.pwrite(self._file, wave.data, BYTES * row * self.tensor.shape[1])
        except OSError as error:
            raise StoreError(_full(self.tensor, str(error.strerror))) from None
        if written != wave.nbytes:
            raise StoreError(_full(self.tensor, f"{written} of {wave.nbytes} bytes fit"))


def _full(tensor: torch.Tensor, reason: str) -> str:
    return (
        f"shared memory (/dev/shm): {reason}; a batch takes {2 * tensor.nbytes} bytes of it, and each "
        "reading process has up to 3: give it more (docker --shm-size), or lower workers or "
        "global_batch"
    )
