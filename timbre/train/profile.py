"""Where the time of a step goes: a trace, each part's share, and what a perfect loader would give."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity

from timbre import storage
from timbre.stream import PairBatch
from timbre.train import checkpoints
from timbre.train.dry_run.memory import heaviest_step
from timbre.train.interruption import Interruption
from timbre.train.parts import (
    ADVERSARIAL,
    DATA,
    DISCRIMINATOR,
    GENERATOR,
    OPTIMIZERS,
    PREFIX,
    RECONSTRUCTION,
    part,
)
from timbre.train.run import Run
from timbre.train.stepping import WARM_UP, Steps

FOLDER = "profile"
# The shares that are printed, and the parts in them; all else is the rest.
SHARES = {
    "data": (DATA,),
    "generator": (GENERATOR,),
    "losses": (RECONSTRUCTION,),
    "discriminators": (DISCRIMINATOR, ADVERSARIAL),
    "optimizers": (OPTIMIZERS,),
}
REST = "rest"


class TimeSpan(NamedTuple):
    """When something was under way, in any unit of time."""

    name: str
    begin: float
    end: float


class Profile(NamedTuple):
    """What was measured: seconds of a step as it is and on one batch, shares of 1, the trace's URL."""

    step: float
    on_one_batch: float
    shares: dict[str, float]
    trace: str


def profile_run(run: Run, count: int) -> Profile:
    """Take steps and measure them; write the trace to ``RUN/profile``. The run is to be thrown away.

    Steps are adversarial ones, if the run has any: they take most. Nothing is saved.

    Args:
        run: as :func:`timbre.train.run.open_run` gives it with ``writing=False``.
        count: steps in each of three measurements: as they are, in the trace, on one batch.
    """
    config, step = run.config, heaviest_step(run) + 1
    if run.adversarial_start >= config.steps:
        step = run.gan.step
    batches = run.data.batches(Interruption())

    def take(steps: Steps, some: Iterable[PairBatch]) -> None:
        for batch in some:
            run.gan.step = step
            run.watch(steps.take(batch))

    take(run.steps, _some(batches, WARM_UP + 2))
    as_it_is = _clock(run, lambda: take(run.steps, _some(batches, count)))
    eager = Steps(run.step_parts, config.augment, config.seed)
    spans, kernels, trace = _trace(run, lambda: take(eager, _some(batches, count)))
    saving = _clock(run, lambda: _save(run)) / config.save_every
    one = next(batches)
    on_one = _clock(run, lambda: take(run.steps, [one] * count))
    seconds = as_it_is / count
    shares = shares_of(spans, kernels)
    whole = seconds + saving
    shares = {name: share * seconds / whole for name, share in shares.items()}
    return Profile(seconds, on_one / count, {**shares, "saving": saving / whole}, trace)


def describe_profile(run: Run, count: int, profile: Profile) -> str:
    """Return what is printed of a profile."""
    config, spared = run.config, 1 - profile.on_one_batch / profile.step
    sound = config.global_batch * config.segment_seconds / profile.step
    shares = ", ".join(f"{name} {share:.1%}" for name, share in profile.shares.items())
    return "\n".join(
        [
            f"{count} steps on {run.accelerator.device} in {config.precision}: "
            f"{profile.step:.4f} s each, {sound:.1f} x real time",
            f"shares: {shares}",
            f"with a perfect loader it would be {profile.on_one_batch:.4f} s, {spared:.1%} less "
            "(the same steps on one batch)",
            f"trace: {profile.trace}, for TensorBoard (torch-tb-profiler) and https://ui.perfetto.dev",
            "nothing was saved; without the key profile the same command trains",
        ]
    )


def shares_of(spans: list[TimeSpan], kernels: list[TimeSpan]) -> dict[str, float]:
    """Return what each of ``SHARES`` and the rest have of the time.

    Of the device's, if it has kernels; else of the host's. What happens at a moment is of the part that
    began last: parts of a backward pass lie within each other, and on a GPU in another thread.

    Args:
        spans: of parts; the whole is from the first to the last.
        kernels: when each was launched, and when it would end if it began then.
    """
    owner = {name: share for share, names in SHARES.items() for name in names}
    seconds_of = dict.fromkeys((*SHARES, REST), 0.0)
    edges = sorted({edge for span in spans for edge in (span.begin, span.end)})

    def inner(moment: float) -> str:
        around = [span for span in spans if span.begin <= moment < span.end]
        latest = max(around, key=lambda span: span.begin, default=None)
        return owner.get(latest.name, REST) if latest else REST

    if kernels:
        for kernel in kernels:
            seconds_of[inner(kernel.begin)] += kernel.end - kernel.begin
    else:
        for begin, end in pairwise(edges):
            seconds_of[inner((begin + end) / 2)] += end - begin
    total = sum(seconds_of.values())
    return {name: value / total for name, value in seconds_of.items()}


def _some(batches: Iterator[PairBatch], count: int) -> Iterator[PairBatch]:
    for _ in range(count):
        with part(DATA):
            batch = next(batches)
        yield batch


def _clock(run: Run, work: Callable[[], object]) -> float:
    """Return the seconds until the device has done the work."""
    _synchronise(run)
    begun = time.perf_counter()
    work()
    _synchronise(run)
    return time.perf_counter() - begun


def _synchronise(run: Run) -> None:
    if run.accelerator.device.type == "cuda":
        torch.cuda.synchronize()


def _trace(run: Run, work: Callable[[], object]) -> tuple[list[TimeSpan], list[TimeSpan], str]:
    """Return the spans of the parts, the kernels by when they were launched, and the trace's URL."""
    activities = [ProfilerActivity.CPU]
    if run.accelerator.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        _clock(run, work)
    spans, kernels = [], []
    for event in profiler.events() or ():
        begin, end = event.time_range.start, event.time_range.end
        if event.device_type.name != "CPU":
            continue
        if event.name.startswith(PREFIX):
            spans.append(TimeSpan(event.name.removeprefix(PREFIX), begin, end))
        kernels += [
            TimeSpan(kernel.name, begin, begin + kernel.duration) for kernel in event.kernels
        ]
    name = f"rank-{run.accelerator.process_index:05d}.pt.trace.json"
    url = storage.join(run.config.run_dir, FOLDER, name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        profiler.export_chrome_trace(str(path))
        storage.publish(url, path.read_bytes())
    return spans, kernels, url


def _save(run: Run) -> None:
    """Write the state as a run does, and delete it."""
    if not run.accelerator.is_main_process:
        return
    folder = storage.join(run.config.run_dir, FOLDER)
    checkpoints.save(folder, 0, run.state.state_dict(), 1)
    below = storage.join(folder, checkpoints.FOLDER)
    for name in storage.find_below(below):
        storage.remove(storage.join(below, name))
