"""One file restored, and the work that a folder is."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

from timbre import audio, storage
from timbre.audio import create, length_at, open_sound
from timbre.errors import AudioError, ConfigError
from timbre.restore.output import Output, block_size
from timbre.restore.restorer import Restorer
from timbre.storage import STANDARD, FileStat

# Called with the share of the file that is done. The last call gets 1.
Progress = Callable[[float], None]


class FileTask(NamedTuple):
    """A file to restore: from where, to where, its size as a measure of the work, the output's rate.

    ``rate`` None is the input's.
    """

    source: str
    target: str
    bytes: int
    rate: int | None = None


class FileResult(NamedTuple):
    """What became of a file: its length, the samples clipped at full scale, and what to know of it."""

    seconds: float
    clipped_samples: int
    notes: tuple[str, ...] = ()


class FolderWork(NamedTuple):
    """The work in a folder.

    Attributes:
        tasks: what is to be done.
        file_count_in_target: how many files are in the target already, whatever made them.
        refusals: what cannot be done, a line each.
        left_out: what is no part of the work, a line each.
    """

    tasks: list[FileTask]
    file_count_in_target: int
    refusals: list[str]
    left_out: list[str]


def restore_file(
    restorer: Restorer, task: FileTask, output: Output, progress: Progress
) -> FileResult:
    """Write ``task.source`` restored to ``task.target``, with its length and channels.

    The target appears whole or not at all. ``-`` is standard input or output.

    Raises:
        FileNotFoundError, OSError: the source cannot be read or the target not written.
        AudioError: the source is no usable audio, the target's format cannot hold it, or what came
            out is not finite.
    """
    with open_sound(task.source) as sound:
        rate = sound.info.sample_rate
        like = length_at(sound.info, task.rate or rate)
        with create(task.target, like) as writer:
            samples = 0
            try:
                for block in restorer.blocks(
                    lambda: sound.blocks(block_size(rate)), rate, output, like.sample_rate
                ):
                    writer.write(block)
                    samples += block.shape[1]
                    progress(min(samples / like.samples, 1.0))
            except AudioError as error:
                # Of the signal itself, such as its rate.
                if sound.name in str(error):
                    raise
                raise AudioError(f"{sound.name}: {error}") from None
        notes = (sound.info.note,) if sound.info.note else ()
        return FileResult(sound.info.samples / rate, writer.clipped_samples, notes)


def folder_work(source: str, target: str, rate: int | None = None) -> FolderWork:
    """Return the work of restoring every audio file below ``source`` to ``target``.

    Files that are in the target already are skipped, whatever made them.

    Raises:
        ConfigError: there is no audio, or the target lies in the source.
    """
    if _lies_in(target, source):
        raise ConfigError(f"{target}: lies in the input folder {source}; choose a place outside it")
    # What killed runs left.
    storage.remove_stale_temporaries(target)
    folder = audio.find_audio(source)
    refusals = list(folder.unreadable)
    if not folder.files and not refusals:
        raise ConfigError(f"{source}: no audio in it", *folder.left_out)
    present = {file.path for file in storage.find_files(target)}
    tasks, present_count = [], 0
    for file in folder.files:
        reason = _reason_to_refuse(file)
        if reason is not None:
            refusals.append(f"{storage.join(source, file.path)}: {reason}")
        elif file.path in present:
            present_count += 1
        else:
            urls = storage.join(source, file.path), storage.join(target, file.path)
            tasks.append(FileTask(*urls, file.bytes, rate))
    return FolderWork(tasks, present_count, refusals, folder.left_out)


def is_below(path: str) -> bool:
    """Whether a relative path stays below the folder that it is joined to (in a store any may be)."""
    pure = PurePosixPath(path)
    return not pure.is_absolute() and ".." not in pure.parts and "\0" not in path


def refuse_same(source: str, target: str) -> None:
    """Raise ConfigError where input and output are one file, or the output's ending names no format."""
    if target == STANDARD:
        return
    try:
        audio.output_format(target)
    except AudioError as error:
        raise ConfigError(str(error)) from None
    if _one_path(source) == _one_path(target):
        raise ConfigError(f"{target}: is the input; choose another name")


def _reason_to_refuse(file: FileStat) -> str | None:
    return None if is_below(file.path) else "its name leads out of the folder; not restored"


def _lies_in(target: str, source: str) -> bool:
    inner, outer = _one_path(target), _one_path(source)
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def _one_path(url: str) -> str:
    """Return one spelling of a local path; a URL as it is."""
    return str(storage.local_path(url).resolve()) if storage.is_local(url) else url
