"""Denoise speech and repair its timbre: files, folders, standard input."""

import argparse
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import torch
from tqdm import tqdm

from timbre import storage
from timbre.command import at_least, print_result, print_warning, restartable_command
from timbre.errors import AudioError, ConfigError, WorkError
from timbre.models import OFFLINE
from timbre.restore.explain import check_explainable, explain, to_json
from timbre.restore.files import (
    FileResult,
    FileTask,
    FolderWork,
    folder_work,
    refuse_same,
    restore_file,
)
from timbre.restore.live import command as live
from timbre.restore.output import LINK_BY_WORD, Output
from timbre.restore.pool import (
    RestorerSettings,
    TaskProgress,
    first_line,
    in_processes,
    serially,
    usual_workers,
)
from timbre.restore.restorer import Restorer
from timbre.storage import STANDARD
from timbre.torch_settings import usable_device

EPILOG = """\
Run the command again to continue a folder: it skips files that exist in OUTPUT and does the missing
and failed ones. The output has the input's length, rate, channels and, where its format can, word
length. INPUT - reads an audio file from standard input, OUTPUT - writes WAV to standard output.
"""


class Sum(NamedTuple):
    """What a folder's work came to."""

    files: int
    restored: int
    seconds: float
    took_seconds: float
    failures: list[str]


def restore_folder(
    settings: RestorerSettings, work: FolderWork, output: Output, workers: int
) -> Sum:
    """Do the work of a folder. A file that fails is named in the result, and the others go on.

    Args:
        settings: of the restorer, one in each process.
        work: as :func:`timbre.restore.files.folder_work` returns it.
        output: the shares of each result.
        workers: how many processes; 0 for as many as suit the machine.

    Raises:
        CheckpointError, FileNotFoundError: there is no such checkpoint, or it is something else.
        WorkError: a process died.
    """
    # In any case: a wrong checkpoint is an error before processes start.
    restorer = load_with_warning(settings)
    count = min(workers or usual_workers(settings.device, work.tasks), len(work.tasks))
    with _bar(work.tasks) as progress:
        if count > 1:
            outcomes = in_processes(settings, work.tasks, output, count, progress)
        else:
            outcomes = serially(restorer, work.tasks, output, progress)
        start_time, restored_files, seconds, failures = (
            time.monotonic(),
            0,
            0.0,
            list(work.refusals),
        )
        for outcome in outcomes:
            if outcome.result is None:
                failures.append(str(outcome.error))
                continue
            restored_files, seconds = restored_files + 1, seconds + outcome.result.seconds
            _warn(outcome.task, outcome.result)
    files = len(work.tasks) + len(work.refusals)
    return Sum(files, restored_files, seconds, time.monotonic() - start_time, failures)


def load_with_warning(settings: RestorerSettings) -> Restorer:
    """Return the restorer, and print what a user should know of it."""
    restorer = settings.load()
    if restorer.warning:
        print_warning(restorer.warning)
    return restorer


def _warn(task: FileTask, result: FileResult) -> None:
    """Print what a user should know of a file that was restored."""
    for note in result.notes:
        print_warning(f"{task.source}: {note}")
    if result.clipped_samples:
        print_warning(
            f"{task.target}: {result.clipped_samples} samples were beyond full scale and are clipped"
        )


@contextmanager
def _bar(tasks: Sequence[FileTask]) -> Iterator[TaskProgress]:
    """Show the work of many files in bytes of their size, with the time that is left."""
    shares: dict[str, float] = {}
    total = sum(task.bytes for task in tasks)
    bar = tqdm(total=total, desc="restore", unit="B", unit_scale=True, disable=None)

    def progress(task: FileTask, share: float) -> None:
        before = shares.get(task.source, 0.0)
        bar.update(round(task.bytes * share) - round(task.bytes * before))
        shares[task.source] = share

    with bar:
        yield progress


def _folder(options: argparse.Namespace, settings: RestorerSettings, output: Output) -> None:
    work = folder_work(options.input, options.output, options.rate)
    for line in work.left_out:
        print_warning(f"left out: {line}")
    if work.file_count_in_target:
        print_result(f"skipped {work.file_count_in_target} files that exist in {options.output}")
    result = restore_folder(settings, work, output, options.workers)
    if result.restored:
        length = timedelta(seconds=round(result.seconds))
        speed = result.seconds / result.took_seconds
        print_result(f"{result.restored} files, {length} of sound: {speed:.1f} x real time")
    if result.failures:
        count = f"{len(result.failures)} of {result.files} files failed"
        raise WorkError(f"{count}:", *result.failures)
    print_result(f"written: {options.output}")


def _file(options: argparse.Namespace, settings: RestorerSettings, output: Output) -> None:
    refuse_same(options.input, options.output)
    if options.explain is not None:
        check_explainable(options.input)
    restorer = load_with_warning(settings)
    size = 0 if options.input == STANDARD else storage.size(options.input)
    task = FileTask(options.input, options.output, size, options.rate)
    with _bar([task]) as progress:
        try:
            result = restore_file(restorer, task, output, lambda share: progress(task, share))
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise WorkError(f"{options.input}: {first_line(error)}") from None
    _warn(task, result)
    if options.output != STANDARD:
        print_result(f"written: {options.output}")
    if options.explain is not None:
        explained = explain(options.input, restorer, settings, output)
        for ending, data in ((".json", to_json(explained.tree)), (".png", explained.picture)):
            storage.publish(options.explain + ending, data)
            print_result(f"written: {options.explain}{ending}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre restore", description=__doc__, epilog=EPILOG)
    parser.add_argument("input", metavar="INPUT", help="an audio file, a folder of them, or -")
    parser.add_argument(
        "output", metavar="OUTPUT", help="a file (.wav, .flac, ...), a folder, or -"
    )
    parser.add_argument(
        "--checkpoint",
        default=OFFLINE,
        help="offline or causal, which come with timbre (%(default)s); best.safetensors or "
        "step-*.pt of a training run; or hf://USER/REPOSITORY[@REVISION][#sha256=HASH]",
    )
    parser.add_argument(
        "--strength",
        type=float,
        default=1.0,
        help="share of the correction: 0 (the denoiser alone) to 1 (%(default)s)",
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
        "--workers",
        type=at_least(0),
        default=0,
        help="processes that take a folder's files in turn; 0: one a CPU core, or one a GPU",
    )
    parser.add_argument(
        "--channels",
        choices=list(LINK_BY_WORD),
        help="linked: two channels are repaired so that the voice stays where it is; apart: each "
        "alone. Usually linked where they are alike, and apart elsewhere",
    )
    parser.add_argument(
        "--explain",
        metavar="NAME",
        help="of one file: also write NAME.json, what was lifted, where, by how much and how surely, "
        "and NAME.png, its spectrograms",
    )
    live.add_network_options(parser)
    parser.add_argument(
        "--stream",
        action="store_true",
        help="restore a live signal, raw PCM from - to -, or a file likewise; it has other options "
        "(--channels N, --encoding, --input-gain-db) and none of --workers, --device: see timbre "
        "restore --stream --help",
    )
    parser.add_argument("--device", help="as torch names it: cpu, cuda, cuda:1; usually the GPU")
    options = parser.parse_args(argv)
    options.device = str(usable_device(options.device))
    live.check_denoiser(options)
    if options.explain is not None:
        options.explain = re.sub(r"\.(json|png)$", "", options.explain)
        if options.input == STANDARD:
            raise ConfigError("--explain: reads its file once more, so it cannot be standard input")
    return options


@restartable_command
def main(argv: Sequence[str] | None = None) -> None:
    """Restore ``INPUT OUTPUT``."""
    words = sys.argv[1:] if argv is None else argv
    if "--stream" in words:
        live.run(words)
        return
    options = _parse(words)
    try:
        output = Output(
            options.strength,
            options.dry,
            link=LINK_BY_WORD.get(options.channels),
            attenuation_limit_db=options.attenuation_limit_db,
        )
    except AudioError as error:
        raise ConfigError(f"--{error}") from None
    if options.input != STANDARD and not storage.exists(options.input):
        raise ConfigError(f"{options.input}: no such file or folder")
    settings = RestorerSettings(
        options.checkpoint,
        options.denoiser,
        options.device,
        options.denoiser_weights,
        options.max_lift_db,
    )
    if options.input != STANDARD and storage.is_folder(options.input):
        if options.output == STANDARD:
            raise ConfigError("a folder cannot go to standard output; name a folder for it")
        if options.explain is not None:
            raise ConfigError(f"--explain: takes one file, and {options.input} is a folder")
        _folder(options, settings, output)
    else:
        _file(options, settings, output)
