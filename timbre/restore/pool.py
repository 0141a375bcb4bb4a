"""Many files, on one process or on several: outcomes as they come."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import psutil
import torch

from timbre.errors import AudioError
from timbre.processes import run_tasks
from timbre.restore.files import Done, Job, restore_file
from timbre.restore.output import Wanted
from timbre.restore.restorer import Restorer

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
    work = partial(_restore, recipe, wanted)
    gpu = recipe.device == "cuda"
    for _, outcome in run_tasks(work, jobs, workers, gpu=gpu, told=progress):
        yield outcome


def _restore(recipe: Recipe, wanted: Wanted, job: Job, tell: Callable[[float], None]) -> Outcome:
    """Do a job in a worker process."""
    return _attempt(_loaded(recipe), job, wanted, lambda _, share: tell(share))


@lru_cache(maxsize=1)
def _loaded(recipe: Recipe) -> Restorer:
    return recipe.load()


def _attempt(restorer: Restorer, job: Job, wanted: Wanted, progress: Progress) -> Outcome:
    try:
        return Outcome(job, restore_file(restorer, job, wanted, partial(progress, job)), None)
    except (AudioError, OSError) as error:
        # Some name the output only.
        text = str(error)
        return Outcome(job, None, text if job.source in text else f"{job.source}: {text}")
