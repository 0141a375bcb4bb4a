"""Many files, on one process or on several: outcomes as they come."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import torch

from timbre.cores import granted_cores
from timbre.errors import AudioError
from timbre.memory import granted_memory
from timbre.processes import run_tasks
from timbre.restore.files import FileResult, FileTask, Progress, restore_file
from timbre.restore.output import Output
from timbre.restore.restorer import Restorer

# A process with both networks and a chunk of stereo: 0.9 GB were measured.
BYTES_A_PROCESS = 1_500_000_000
# Of files: a process takes some seconds to start, in which one restores a minute.
BYTES_WORTH_A_PROCESS = 10_000_000


class RestorerSettings(NamedTuple):
    """What a process loads its restorer from; see :meth:`Restorer.load`."""

    checkpoint: str | None
    denoise: bool | str
    device: str
    denoiser_weights: str | None = None
    max_lift_db: float | None = None

    def load(self) -> Restorer:
        """Return the restorer; raises like :meth:`Restorer.load`."""
        return Restorer.load(
            self.checkpoint, self.denoise, self.denoiser_weights, self.device, self.max_lift_db
        )


class Outcome(NamedTuple):
    """What became of a task: its ``result``, or the ``error``."""

    task: FileTask
    result: FileResult | None
    error: str | None


# Called with a task and the share of it that is done.
TaskProgress = Callable[[FileTask, float], None]


def usual_workers(device: str, tasks: Sequence[FileTask]) -> int:
    """Return how many processes serve these files well: one a GPU, or a CPU core with memory."""
    if device != "cpu":
        places = torch.cuda.device_count() if device == "cuda" else 1
    else:
        room = granted_memory() // BYTES_A_PROCESS
        places = min(granted_cores(), room)
    worth = sum(task.bytes for task in tasks) // BYTES_WORTH_A_PROCESS
    return max(min(places, len(tasks), worth), 1)


def serially(
    restorer: Restorer, tasks: Sequence[FileTask], output: Output, progress: TaskProgress
) -> Iterator[Outcome]:
    """Yield the outcome of every task, done in this process."""
    for task in tasks:
        yield attempt(restorer, task, output, partial(progress, task))


def in_processes(
    settings: RestorerSettings,
    tasks: Sequence[FileTask],
    output: Output,
    workers: int,
    progress: TaskProgress,
) -> Iterator[Outcome]:
    """Yield the outcome of every task, as they come, done by ``workers`` processes.

    Raises:
        WorkError: a process died.
    """
    work = partial(_restore, settings, output)
    gpu = settings.device == "cuda"
    for _, outcome in run_tasks(work, tasks, workers, gpu=gpu, progress=progress):
        yield outcome


def attempt(restorer: Restorer, task: FileTask, output: Output, progress: Progress) -> Outcome:
    """Restore one file; a file that cannot be restored, even for want of memory, is no end of others."""
    try:
        return Outcome(task, restore_file(restorer, task, output, progress), None)
    except (AudioError, OSError) as error:
        text = str(error)
    except (MemoryError, RuntimeError) as error:
        # torch's errors: out of memory is one of them, on a GPU by its own class, on a CPU by none.
        text = first_line(error)
    if restorer.device.type == "cuda":
        torch.cuda.empty_cache()
    # Some name the output only.
    return Outcome(task, None, text if task.source in text else f"{task.source}: {text}")


def _restore(settings: RestorerSettings, output: Output, task: FileTask, tell: Progress) -> Outcome:
    """Do a task in a worker process."""
    return attempt(_load(settings), task, output, tell)


def first_line(error: Exception) -> str:
    """Return what kind of error it is, and what it says, in one line."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


@lru_cache(maxsize=1)
def _load(settings: RestorerSettings) -> Restorer:
    return settings.load()
