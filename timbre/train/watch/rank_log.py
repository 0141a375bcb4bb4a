"""What one rank has to say, in a file of its own: ``RUN/logs/rank-00000.log``."""

import faulthandler
import resource
import signal
import socket
import traceback
from contextlib import suppress
from datetime import datetime, timezone
from os import getpid
from pathlib import Path
from typing import IO

import torch

from timbre import storage
from timbre.cores import granted_cores
from timbre.errors import WorkError
from timbre.plain_text import printable

FOLDER = "logs"


class RankLog:
    """Appends lines with the time (UTC); nothing where the run's folder is not on a disk.

    From now on a crash of the interpreter leaves its stacks there, and SIGUSR2 those of a process
    that is still alive: what does a rank wait for that does not go on?

    Args:
        run_dir: the run's folder; None: nothing is written.
        rank: whose log it is.
    """

    def __init__(self, run_dir: str | None, rank: int) -> None:
        self._file: IO[str] | None = None
        self._crashes = False
        if run_dir is None or not storage.is_local(run_dir):
            return
        folder = Path(storage.local_path(run_dir), FOLDER)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"rank-{rank:05d}.log").open("a", encoding="utf-8", buffering=1)
        faulthandler.register(signal.SIGUSR2, self._file)
        if not faulthandler.is_enabled():  # else somebody reads them elsewhere
            faulthandler.enable(self._file)
            self._crashes = True

    def write(self, message: str) -> None:
        """Append a message; of one of several lines, those after the first are indented.

        Raises:
            WorkError: the file cannot be written; the message names it.
        """
        if self._file:
            now = datetime.now(timezone.utc).isoformat(" ", "milliseconds")[:-6]
            lines = "\n  ".join(map(printable, message.splitlines()))
            try:
                self._file.write(f"{now} {lines}\n")
            except OSError as error:
                raise WorkError(
                    f"{self._file.name}: cannot be written: {error.strerror or error}"
                ) from error

    def record(self, error: BaseException) -> None:
        """Write down where an error was raised; where that cannot be written, it is lost here."""
        with suppress(WorkError):
            self.write("".join(traceback.format_exception(error)))

    def close(self) -> None:
        """Write no more."""
        if self._file:
            faulthandler.unregister(signal.SIGUSR2)
            if self._crashes:
                faulthandler.disable()
            with suppress(OSError):  # what could not be written has been reported
                self._file.close()
            self._file = None


def place() -> str:
    """Return the machine and the number of this process."""
    return f"{socket.gethostname()}, process {getpid()}"


def threads() -> str:
    """Return how many threads this rank takes, and of how many cores."""
    return f"{torch.get_num_threads()} of the {granted_cores()} cores that the machine grants"


def peak_memory() -> str:
    """Return the most memory that this process has had so far, the device's if it has one."""
    if torch.cuda.is_available():
        return f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB of the device"
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"
