"""Signals that end a run: heard between steps, and while the main process waits for data."""

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.distributed import is_torchelastic_launched

# A scheduler's warnings, a terminal's Ctrl-C, and its end.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
# A terminal's, which a program in the background ignores (``nohup``, ``&``). A scheduler's are never
# ignored on purpose: a batch script that does so for itself leaves that to its ranks.
TERMINAL = (signal.SIGINT, signal.SIGHUP)


class WaitInterruptedError(BaseException):
    """Raised by a signal while the process waits; no handler of other errors may catch it."""


class Interruption:
    """Whether a signal asks the run to end.

    ``with`` it, signals are caught, but for a terminal's that were ignored; after it they do what
    they did before. A signal sets ``is_asked``, and nothing more: steps, saving and validation are
    not torn. Only a wait that :meth:`break_wait` marks is broken off. After the first signal, Ctrl-C
    ends the process at once.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._is_waiting = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        """Catch signals."""
        ignored_signals = {
            number for number in TERMINAL if signal.getsignal(number) == signal.SIG_IGN
        }
        handled_signals = [number for number in SIGNALS if number not in ignored_signals]
        self._former = {number: signal.signal(number, self._hear) for number in handled_signals}
        return self

    def __exit__(self, *_: object) -> None:
        """Let signals do what they did before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextmanager
    def break_wait(self) -> Iterator[None]:
        """Let a signal break the body off; for a wait that leaves nothing half done.

        Raises:
            WaitInterruptedError: a signal came, in the body or before.
        """
        children = signal.getsignal(signal.SIGCHLD)
        try:
            self._is_waiting = True
            if self.is_asked:
                raise WaitInterruptedError("data")
            yield
        finally:
            self._is_waiting = False
            # PyTorch's loader, once started, would raise wherever the program is when one of its
            # processes dies. A wait for that process finds it, too.
            if signal.getsignal(signal.SIGCHLD) != children:
                signal.signal(signal.SIGCHLD, children)

    def _hear(self, *_: object) -> None:
        if signal.SIGINT in self._former and not is_torchelastic_launched():
            # A second Ctrl-C ends the process at once, whatever it is in. A launcher sends its
            # ranks one more itself.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.is_asked = True
        if self._is_waiting:
            self._is_waiting = False
            # Here, before the wait is unwound, which ends the processes.
            processes = reading_processes()
            kill_stopped_processes()
            raise WaitInterruptedError(f"data from {processes}")


def reading_processes() -> str:
    """Return the reading processes that a wait was for, those that are stopped apart."""
    names = [
        f"{child.pid} (stopped)" if is_stopped(child.pid) else str(child.pid)
        for child in multiprocessing.active_children()
    ]
    return (
        f"process{'es' * (len(names) > 1)} {', '.join(sorted(names))}" if names else "this process"
    )


def kill_stopped_processes() -> None:
    """End the reading processes that are stopped: they hear no request to end."""
    for child in multiprocessing.active_children():
        if is_stopped(child.pid):
            child.kill()


def is_stopped(pid: int | None) -> bool:
    """Return whether a process is stopped (SIGSTOP, a debugger); no where that cannot be seen."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "Tt"
