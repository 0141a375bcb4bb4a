"""Many files, on one process or on several: outcomes as they come."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

import psutil
import torch

from timbre.errors import AudioError, WorkError
from timbre.restore_files import Done, Job, restore_file
from timbre.restorer import Restorer
from timbre.wanted import Wanted

# A process with both networks and a chunk of stereo: 0.9 GB were measured.
BYTES_A_PROCESS = 1_500_000_000
# Of files: a process takes some seconds to start, in which one restores a minute.
BYTES_WORTH_A_PROCESS = 10_000_000


class Recipe(NamedTuple):
    """What a process makes its restorer of; see :meth:`Restorer.load`."""

    checkpoint: str | None
    denoise: bool
    device: str

    def load(self) -> Restorer:
        """Return the restorer; raises like :meth:`Restorer.load`."""
        return Restorer.load(self.checkpoint, self.denoise, device=self.device)


class Outcome(NamedTuple):
    """What became of a job: ``done``, or why not."""

    job: Job
    done: Done | None
    error: str | None


# Is told what share of a job is done now.
Progress = Callable[[Job, float], None]


def usual_workers(device: str, jobs: Sequence[Job]) -> int:
    """Return how many processes serve these files well: one a GPU, or a CPU core with memory."""
    if device != "cpu":
        places = torch.cuda.device_count() if device == "cuda" else 1
    else:
        room = psutil.virtual_memory().available // BYTES_A_PROCESS
        places = min(os.cpu_count() or 1, room)
    worth = sum(job.bytes for job in jobs) // BYTES_WORTH_A_PROCESS
    return max(min(places, len(jobs), worth), 1)


def serially(
    restorer: Restorer, jobs: Sequence[Job], wanted: Wanted, progress: Progress
) -> Iterator[Outcome]:
    """Yield the outcome of every job, done in this process."""
    for job in jobs:
        yield _attempt(restorer, job, wanted, progress)


def in_processes(
    recipe: Recipe, jobs: Sequence[Job], wanted: Wanted, workers: int, progress: Progress
) -> Iterator[Outcome]:
    """Yield the outcome of every job, as they come; so many processes take jobs in turn.

    Raises:
        WorkError: a process died.
    """
    waiting = iter(jobs)
    with _processes(recipe, wanted, workers) as pool:
        busy = {line for line in pool if _give(line, waiting)}
        while busy:
            for line in wait(list(busy)):
                assert isinstance(line, Connection)
                message = _receive(line, pool[line])
                if isinstance(message, Outcome):
                    yield message
                    if not _give(line, waiting):
                        busy.remove(line)
                else:
                    progress(*message)


def _attempt(restorer: Restorer, job: Job, wanted: Wanted, progress: Progress) -> Outcome:
    try:
        return Outcome(job, restore_file(restorer, job, wanted, partial(progress, job)), None)
    except (AudioError, OSError) as error:
        # Some name the output only.
        text = str(error)
        return Outcome(job, None, text if job.source in text else f"{job.source}: {text}")


def _give(line: Connection, waiting: Iterator[Job]) -> bool:
    """Send the next job, if there is one."""
    job = next(waiting, None)
    if job is not None:
        with suppress(ConnectionError):  # the process is dead, which receiving will tell
            line.send(job)
    return job is not None


def _receive(line: Connection, process: SpawnProcess) -> Any:
    try:
        return line.recv()
    except (EOFError, ConnectionError):
        process.join()
        raise WorkError(
            f"a worker process died (exit code {process.exitcode}; -9: most likely the machine ran "
            "out of memory, then take fewer --workers); what is finished is kept; run the same "
            "command again to continue"
        ) from None


@contextmanager
def _processes(
    recipe: Recipe, wanted: Wanted, count: int
) -> Iterator[dict[Connection, SpawnProcess]]:
    """Start ``count`` processes, each at the end of a line; end them afterwards."""
    context = multiprocessing.get_context("spawn")
    pool: dict[Connection, SpawnProcess] = {}
    try:
        for number in range(count):
            ours, theirs = context.Pipe()
            told = theirs, _for_worker(recipe, number), wanted
            process = context.Process(target=_serve, args=told, daemon=True)
            process.start()
            theirs.close()  # so that the line breaks when the process dies
            pool[ours] = process
        yield pool
    finally:
        # At once, whatever they do: an output appears whole or not at all. Not killed, so that their
        # temporary files go too.
        for line, process in pool.items():
            process.terminate()
            process.join()
            line.close()


def _for_worker(recipe: Recipe, number: int) -> Recipe:
    count = torch.cuda.device_count() if recipe.device == "cuda" else 0
    return recipe._replace(device=f"cuda:{number % count}") if count else recipe


def _serve(line: Connection, recipe: Recipe, wanted: Wanted) -> None:
    """Do the jobs that come in: what a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the parent's to act on
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    torch.set_num_threads(1)
    restorer = recipe.load()
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            job = line.recv()
            outcome = _attempt(restorer, job, wanted, lambda *message: line.send(message))
            line.send(outcome)
