"""One loader measured in this process: `python -m benchmarks.stream.case TASK`, TASK being JSON.

Run by `benchmarks.stream`, with this project's interpreter or the peers'. The last line printed is
the :class:`Figures` of it, as JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.stream.meters import Memory, PeakMemory, cpu_seconds

ROOT = Path(__file__).parents[2]
PEERS_PYTHON = ROOT / ".venv-peers/bin/python"
PAIR_SAMPLES, SEGMENT_SAMPLES = 144_000, 96_000
BATCH, WORKERS = 16, 2
INT16, FLOAT32 = "int16", "float32"
PEERS = "benchmarks.stream.peers."


class Task(NamedTuple):
    """What to load and how much of it.

    ``LOADERS[loader]`` of ``module`` is given this and yields batches for longer than is measured.
    ``folder`` holds the pairs in ``audio_format``, in a folder for each loader's own format.
    ``samples`` is the length that is asked for, of ``PAIR_SAMPLES``. The clocks run over ``batches``
    after ``warm_up``. ``first_step`` is where in an epoch the loader begins. ``dtype`` is
    what the samples are to be, which is up to peers only.
    """

    module: str
    loader: str
    folder: str
    audio_format: str
    samples: int
    warm_up: int = 8
    batches: int = 40
    first_step: int = 0
    dtype: str = INT16


class Batch(NamedTuple):
    """Both sides ``(BATCH, samples)``, int16 where the loader can."""

    degraded: Tensor
    clean: Tensor


Load = Callable[[Task], Iterator[Batch]]


class Figures(NamedTuple):
    """What came of a task: CPU time of the tree of processes, pairs, seconds."""

    cpu_milliseconds_per_pair: float
    pairs_per_second: float
    first_batch_seconds: float


def main() -> None:
    """Measure the task that the command line tells."""
    task = Task(**json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    load: Load = import_module(task.module).LOADERS[task.loader]
    figures = measure(load, task)
    sys.stdout.write("\n" + json.dumps(figures._asdict()) + "\n")
    sys.stdout.flush()


def measure(load: Load, task: Task) -> Figures:
    """Return what loading costs once it runs, and how long it takes to begin.

    Read-ahead is as deep at the end as at the beginning, so what the clocks see is the work for as
    many batches as came between.
    """
    root = os.getpid()
    start = time.perf_counter()
    batches = load(task)
    first = next(batches)
    first_seconds = time.perf_counter() - start
    check(first, task)
    del first
    consume(batches, task.warm_up)
    cpu, wall = cpu_seconds(root), time.perf_counter()
    consume(batches, task.batches)
    wall, cpu = time.perf_counter() - wall, cpu_seconds(root) - cpu
    pairs = task.batches * BATCH
    return Figures(1000 * cpu / max(pairs, 1), pairs / wall, first_seconds)


def consume(batches: Iterator[Batch], count: int) -> None:
    """Take batches and let go of them at once: where the device would copy them."""
    batch_count = sum(1 for _ in islice(batches, count))
    if batch_count < count:
        raise ValueError(f"{batch_count} batches, expected {count} more")


def check(batch: Batch, task: Task) -> None:
    """Refuse a batch that is not what all loaders are asked for."""
    for name, side in batch._asdict().items():
        if tuple(side.shape) != (BATCH, task.samples):
            raise ValueError(f"{task.loader}: {name} is {tuple(side.shape)}")
        if side.dtype != getattr(torch, task.dtype):
            raise ValueError(f"{task.loader}: {name} is {side.dtype}, expected {task.dtype}")
        if not side.any(dim=1).all() and "limit" not in task.module:
            raise ValueError(f"{task.loader}: {name} is silent")


def run(task: Task) -> Figures:
    """Measure a task in a process of its own."""
    return Figures(**last_line(start_case(task)))


def run_for_memory(task: Task) -> Memory:
    """Return the most memory that a process held that ran a task, and its children with it."""
    process = start_case(task)
    with PeakMemory(process.pid) as watch:
        last_line(process)
    return watch.peak


def start_case(task: Task) -> subprocess.Popen[str]:
    """Start this module on a task with the interpreter that has the loader."""
    python = str(PEERS_PYTHON) if task.module.startswith(PEERS) else sys.executable
    return start(python, ["-m", "benchmarks.stream.case", json.dumps(task._asdict())])


def start(
    python: str, command: Sequence[str], variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a program of this project, with more environment variables; its output is kept."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    # The peers' own: of tensors that must not be written to.
    quiet = {"PYTHONWARNINGS": "ignore"} if python == str(PEERS_PYTHON) else {}
    environment = {**os.environ, **threads, **quiet, **(variables or {})}
    return subprocess.Popen(
        [python, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )


def last_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a program; return the last line that it printed, read as JSON.

    Raises:
        RuntimeError: it failed; its own words are on standard error.
    """
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {process.args!r}")
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
