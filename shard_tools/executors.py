"""Where shards are made. They are independent, so an executor only hands out tasks.

``local`` is processes of one machine, one thread each: DeepFilterNet3's small matrices gain more
from a second process than from a second thread.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch

from timbre.errors import WorkError

T = TypeVar("T")
R = TypeVar("R")

Executor = Literal["local"]

# The allocator gives big blocks back to the system and faults them in again, batch after batch,
# unless told to keep them; read once, when a process starts.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}


def run_local(work: Callable[[T], R], tasks: Sequence[T], workers: int) -> Iterator[tuple[T, R]]:
    """Yield every task with its result, as they are done, by ``workers`` processes.

    With one worker the work is done in this process.

    Raises:
        WorkError: a worker died (out of memory, say).
        Exception: whatever a task raised; the tasks not yet begun are dropped.
    """
    if workers <= 1:
        yield from ((task, work(task)) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    with (
        _environment(ALLOCATOR),
        ProcessPoolExecutor(
            workers, context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool,
    ):
        futures = {pool.submit(work, task): task for task in tasks}
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise WorkError(
                "a worker process died; is there memory for this many workers?"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile; what the user set stays."""
    added = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
