"""Denoise speech with DeepFilterNet3 and repair its timbre: files, folders, standard input."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
from tqdm import tqdm

from timbre import storage
from timbre.command import at_least, command, say, tell_warning
from timbre.errors import ConfigError, WorkError
from timbre.models import shipped
from timbre.restore.files import Job, plan_folder, refuse_same, restore_file
from timbre.restore.live import command as stream_command
from timbre.restore.output import Wanted
from timbre.restore.pool import Progress, Recipe, in_processes, serially, usual_workers
from timbre.storage import STANDARD

EPILOG = """\
A finished file of a folder is left when the command runs again; what failed or is missing is done.
The output has the input's length, rate, channels and, where its format can, word length. INPUT -
reads an audio file from standard input, OUTPUT - writes WAV to standard output. A live signal: see
timbre restore --stream --help.
"""


class Sum(NamedTuple):
    """What a folder's work came to."""

    files: int
    restored: int
    seconds: float
    took_seconds: float
    failures: list[str]


def restore_folder(recipe: Recipe, folders: tuple[str, str], wanted: Wanted, workers: int) -> Sum:
    """Restore every audio file below the first folder to the same place below the second.

    A file that fails is named in the result, and the others go on.

    Args:
        recipe: of the restorer, one in each process.
        folders: where from, where to.
        wanted: what is made of each file.
        workers: how many processes; 0 for as many as suit the machine.

    Raises:
        ConfigError: there is no audio, or the target lies in the source.
        CheckpointError, FileNotFoundError: there is no such checkpoint, or it is something else.
        WorkError: a process died.
    """
    plan = plan_folder(*folders)
    if plan.left:
        say(f"there already, and left: {plan.left}")
    restorer = recipe.load()  # in any case: it tells of a wrong checkpoint before processes start
    count = min(workers or usual_workers(recipe.device, plan.jobs), len(plan.jobs))
    with _bar(plan.jobs) as progress:
        if count > 1:
            outcomes = in_processes(recipe, plan.jobs, wanted, count, progress)
        else:
            outcomes = serially(restorer, plan.jobs, wanted, progress)
        begun, restored, seconds, failures = time.monotonic(), 0, 0.0, list(plan.refused)
        for outcome in outcomes:
            if outcome.done is None:
                failures.append(str(outcome.error))
                continue
            restored, seconds = restored + 1, seconds + outcome.done.seconds
            _tell_clipped(outcome.job.target, outcome.done.clipped)
    files = len(plan.jobs) + len(plan.refused)
    return Sum(files, restored, seconds, time.monotonic() - begun, failures)


def _tell_clipped(target: str, clipped: int) -> None:
    if clipped:
        tell_warning(f"{target}: {clipped} samples were beyond full scale and are clipped")


@contextmanager
def _bar(jobs: Sequence[Job]) -> Iterator[Progress]:
    """Show the work of many files in bytes of their size, with the time that is left."""
    done: dict[str, float] = {}
    total = sum(job.bytes for job in jobs)
    bar = tqdm(total=total, desc="restore", unit="B", unit_scale=True, disable=None)

    def progress(job: Job, share: float) -> None:
        bar.update(round(job.bytes * share) - round(job.bytes * done.get(job.source, 0.0)))
        done[job.source] = share

    with bar:
        yield progress


def _folder(given: argparse.Namespace, recipe: Recipe, wanted: Wanted) -> None:
    result = restore_folder(recipe, (given.input, given.output), wanted, given.workers)
    if result.restored:
        length = timedelta(seconds=round(result.seconds))
        say(
            f"{result.restored} files, {length} of sound: {result.seconds / result.took_seconds:.1f} x real time"
        )
    if result.failures:
        count = f"{len(result.failures)} of {result.files} files failed"
        raise WorkError(f"{count}:", *result.failures)
    say(f"written: {given.output}")


def _file(given: argparse.Namespace, recipe: Recipe, wanted: Wanted) -> None:
    refuse_same(given.input, given.output)
    restorer = recipe.load()
    size = 0 if given.input == STANDARD else storage.size(given.input)
    job = Job(given.input, given.output, size)
    with _bar([job]) as progress:
        done = restore_file(restorer, job, wanted, lambda share: progress(job, share))
    _tell_clipped(given.output, done.clipped)
    if given.output != STANDARD:
        say(f"written: {given.output}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre restore", description=__doc__, epilog=EPILOG)
    parser.add_argument("input", metavar="INPUT", help="an audio file, a folder of them, or -")
    parser.add_argument(
        "output", metavar="OUTPUT", help="a file (.wav, .flac, ...), a folder, or -"
    )
    parser.add_argument(
        "--checkpoint",
        default=shipped.OFFLINE,
        help="offline or causal, which come with timbre (%(default)s); or best.safetensors or "
        "step-*.pt of a training run",
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=1.0,
        help="share of the correction: 0 (DeepFilterNet3 alone) to 1 (%(default)s)",
    )
    parser.add_argument(
        "--dry",
        type=float,
        default=0.0,
        help="share of the input in the output, in phase: 0 to 1 (%(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=at_least(1),
        help="the output's sample rate in Hz instead of the input's; 48000 keeps all that is restored",
    )
    parser.add_argument(
        "--no-denoise", action="store_true", help="the input has been through DeepFilterNet3"
    )
    parser.add_argument(
        "--workers",
        type=at_least(0),
        default=0,
        help="processes that take a folder's files in turn; 0: as many as there are CPU cores, or GPUs",
    )
    parser.add_argument("--device", help="as torch names it: cpu, cuda, cuda:1; usually the GPU")
    given = parser.parse_args(argv)
    for name in ("strength", "dry"):
        if not 0 <= getattr(given, name) <= 1:
            raise ConfigError(f"--{name} {getattr(given, name)}: expected 0 to 1")
    given.device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return given


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Restore ``INPUT OUTPUT``."""
    words = sys.argv[1:] if argv is None else argv
    if "--stream" in words:
        stream_command.run(words)
        return
    given = _parse(words)
    if given.input != STANDARD and not storage.exists(given.input):
        raise ConfigError(f"{given.input}: no such file or folder")
    recipe = Recipe(given.checkpoint, not given.no_denoise, given.device)
    wanted = Wanted(given.strength, given.dry, given.rate)
    if given.input != STANDARD and storage.is_folder(given.input):
        if given.output == STANDARD:
            raise ConfigError("a folder cannot go to standard output; name a folder for it")
        _folder(given, recipe, wanted)
    else:
        _file(given, recipe, wanted)


if __name__ == "__main__":
    sys.exit(main())
