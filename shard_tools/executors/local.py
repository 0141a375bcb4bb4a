"""Where tasks of a job are done. They are independent, so an executor only hands them out.

``local`` is processes of one machine (:mod:`timbre.processes`). ``array`` is ``local`` on several
machines that share nothing but the output: each does its share of the tasks (:mod:`shard_tools.executors.share`).
``ray`` is :mod:`shard_tools.executors.ray`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from timbre.processes import run_tasks

T = TypeVar("T")
R = TypeVar("R")

# The allocator gives big blocks back to the system and faults them in again, batch after batch,
# unless told to keep them. oneDNN keeps code and memory for the last 1024 shapes that it met, and
# every batch has its own. Both are read once, when a process starts.
ALLOCATOR = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}


def run_local(
    work: Callable[[T], R], tasks: Sequence[T], workers: int, *, gpu: bool = True
) -> Iterator[tuple[T, R]]:
    """Yield every task with its result, as :func:`timbre.processes.run_tasks` does.

    One worker is this process; others are told how to use memory. ``gpu``: the work wants one.
    """
    count = workers if workers > 1 else 0
    return run_tasks(work, tasks, count, gpu=gpu, environment=ALLOCATOR)
