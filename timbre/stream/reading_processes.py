"""The processes that read ahead: how they begin and end, and waiting for them with open eyes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ctypes import c_bool
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch.utils.data import DataLoader

from timbre.errors import LostWorkerError

T = TypeVar("T")

# Waiting for a batch is broken into slices of this length.
SLICE_SECONDS = 1.0
# So often the longest that one request to a store may take, a reading process may be silent.
SILENT_DEADLINES = 10
STOPPED_STATE = "T"
# What PyTorch's loader says, which has one class for all its errors.
TIMED_OUT, EXIT_MESSAGES = "timed out", ("exited unexpectedly", "is killed by signal")


class Wait(NamedTuple):
    """A wait for a batch: for how long so far, and for which reading process."""

    seconds: float
    worker: int
    pid: int

    @property
    def is_stopped(self) -> bool:
        """Whether the process was stopped by a signal, and runs no more until another one."""
        return _state(self.pid) == STOPPED_STATE

    def __str__(self) -> str:
        """Return it as a clause."""
        note = " is stopped and" if self.is_stopped else ""
        return (
            f"reading process {self.worker} (pid {self.pid}){note} has not answered for "
            f"{self.seconds:.0f} s"
        )


class ReadingProcesses:
    """Who the processes are, for their parent; and what it shares with them: whether they are to end.

    Until then they leave signals to their parent: a scheduler sends its warnings to the whole group,
    and batches are needed after that. It is plain shared memory: a lock could be held by what a
    signal interrupts.

    Args:
        are_forked: whether the process that makes this is their parent in the kernel's eyes, too.
    """

    def __init__(self, are_forked: bool) -> None:
        self._parent = os.getpid() if are_forked else None
        self._is_ending = RawValue(c_bool, False)
        self._pids: list[int] = []

    def begin(self, _: int) -> None:
        """In a reading process, at its start.

        One whose parent is gone by now ends: PyTorch notes only after this whose end it is to notice.
        """
        if self._parent not in (None, os.getppid()):
            os._exit(0)
        for one in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if self.is_ending() else None)

    def watch(self, batches: Iterator[Any]) -> None:
        """In the parent, at once: a process may be stopped before it could say who it is.

        PyTorch's loader keeps them under this name since there are any, and has no other.
        """
        self._pids = [process.pid for process in getattr(batches, "_workers", ())]

    def end(self) -> None:
        """In the parent, before the loader ends them; one that is stopped could not hear of it."""
        self._is_ending.value = True
        for pid in self._pids:
            if _state(pid) == STOPPED_STATE:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def is_ending(self) -> bool:
        """Return whether they are not needed any more."""
        return bool(self._is_ending.value)

    def wait_for(self, batch: int, seconds: float) -> Wait:
        """Return for whom the parent waits: each process makes every n-th batch."""
        worker = batch % len(self._pids)
        return Wait(seconds, worker, self._pids[worker])


def batches_in_slices(
    loader: "DataLoader[T]",
    processes: ReadingProcesses,
    deadline_seconds: float,
    while_waiting: Callable[[Wait], None],
) -> Iterator[T]:
    """Yield what a loader gives, and call ``while_waiting`` every second that it gives nothing.

    What that raises ends the wait.

    Raises:
        LostWorkerError: a reading process was killed; or it is stopped, for ``deadline_seconds``; or
            silent for many times as long.
    """
    # By name: it outlives the loop, and ends its processes after they were told.
    batches = _begin(loader)
    processes.watch(batches)
    number, seconds = 0, 0.0
    while True:
        try:
            batch = next(batches)
        except RuntimeError as error:
            if any(text in str(error) for text in EXIT_MESSAGES):
                raise LostWorkerError(_kill_message(str(error))) from None
            if TIMED_OUT not in str(error):
                raise
            seconds += SLICE_SECONDS
            wait = processes.wait_for(number, seconds)
            while_waiting(wait)
            limit = deadline_seconds * (1 if wait.is_stopped else SILENT_DEADLINES)
            if seconds > limit:
                raise LostWorkerError(
                    f"{wait}; continue it with SIGCONT, or look at its disk or store, and run the "
                    "same command again"
                ) from None
        else:
            yield batch
            number, seconds = number + 1, 0.0


def _begin(loader: "DataLoader[T]") -> Iterator[T]:
    """Return the loader's iterator.

    PyTorch lets a signal handler raise, wherever the program is, when a child dies. Here that is
    noticed where batches are waited for, so that the step that is under way is finished.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(loader)  # PyTorch sets no handler there, nor could we
    before: Any = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, before if before is not None else signal.SIG_DFL)
    return batches


def _kill_message(message: str) -> str:
    return (
        f"a reading process was killed ({message.strip()}): most likely the machine or container was out of "
        "memory; lower workers or global_batch, or give it more"
    )


def _state(pid: int) -> str:
    """Return the letter that the kernel has for what a process does; nothing if it is gone."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def wait_quietly(_: Wait) -> None:
    """Do nothing while a batch is waited for."""
