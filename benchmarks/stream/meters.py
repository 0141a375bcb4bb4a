"""What a tree of processes costs: CPU time to the nanosecond, proportional memory. Linux only.

Nothing but the standard library: the peers' interpreter runs it too.
"""

import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

KILOBYTE = 1024
SAMPLE_SECONDS = 0.05
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """Bytes of a tree of processes.

    ``total`` is the sum of the proportional set sizes: what is shared counts once, split among all who
    map it. ``own`` is that without files: a library counts less while other programs use it too.
    ``largest`` is the highest resident set size that a process of the tree ever had; what is shared
    counts whole.
    """

    total: int
    own: int
    largest: int


def tree_of(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    tree = [root]
    for process in tree:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            tree += map(int, _text(children).split())
    return tree


def cpu_seconds(root: int) -> float:
    """Return the CPU time, user and system, of a process and all that ever descended from it.

    The living are read by their own CPU clocks, which count nanoseconds of every thread, ended ones
    too. Who has ended and been waited for is in the ticks (10 ms) that its parent is told.
    """
    processes = tree_of(root)
    # First all clocks: looking at them costs time of this process, which may be the root.
    return sum(map(_clock, processes)) + sum(map(_of_the_dead, processes))


def memory(root: int) -> Memory:
    """Return what a process and all that descend from it hold now, and the most that one ever held."""
    parts = [_memory_of(process) for process in tree_of(root)]
    total, own, largest = zip(*parts, strict=True)
    return Memory(sum(total), sum(own), max(largest))


class PeakMemory:
    """Watches a tree from outside while the block runs; ``peak`` is the most seen of each figure.

    A look at a process of 1 GB takes some milliseconds of it, so CPU time is measured without this.
    """

    def __init__(self, root: int) -> None:
        self.peak = Memory(0, 0, 0)
        self._root = root
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        self.peak = Memory(*map(max, self.peak, memory(self._root)))


def wait_until_idle(root: int, quiet_seconds: float = 0.3, longest_seconds: float = 30.0) -> None:
    """Wait until a tree has used no more than 2 % of a core for a while: read-ahead is full then."""
    deadline = time.monotonic() + longest_seconds
    last = cpu_seconds(root)
    while time.monotonic() < deadline:
        time.sleep(quiet_seconds)
        now = cpu_seconds(root)
        if now - last < 0.02 * quiet_seconds:
            return
        last = now
    raise TimeoutError(f"process {root} and its children still work after {longest_seconds} s")


def _clock(process: int) -> float:
    # What clock_getcpuclockid(3) returns: the complement of the process, and CPUCLOCK_SCHED.
    try:
        return time.clock_gettime((~process << 3) | 2)
    except OSError:  # it has ended meanwhile
        return 0.0


def _of_the_dead(process: int) -> float:
    """Return the CPU time of the children that this process has waited for, and of theirs."""
    after_name = _text(Path(f"/proc/{process}/stat")).rpartition(")")[2].split()
    return sum(map(int, after_name[13:15])) / CLOCK_TICKS


def _memory_of(process: int) -> Memory:
    rollup = _text(Path(f"/proc/{process}/smaps_rollup"))
    own = _field(rollup, "Pss_Anon:") + _field(rollup, "Pss_Shmem:")
    status = _text(Path(f"/proc/{process}/status"))
    return Memory(_field(rollup, "Pss:"), own, _field(status, "VmHWM:"))


def _field(text: str, name: str) -> int:
    lines = [line.split() for line in text.splitlines() if line.startswith(name)]
    return int(lines[0][1]) * KILOBYTE if lines else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended meanwhile
        return ""
