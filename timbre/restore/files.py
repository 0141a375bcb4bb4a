"""One file restored, and the work that a folder is."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

from timbre import audio, storage
from timbre.audio import create, length_at, open_sound
from timbre.errors import AudioError, ConfigError
from timbre.restore.output import Wanted, block_size
from timbre.restore.restorer import Restorer
from timbre.storage import STANDARD

# Is told what share of a file is done now; the last time it is 1.
Told = Callable[[float], None]


class Job(NamedTuple):
    """A file to restore: where from, where to, and its size as a measure of the work."""

    source: str
    target: str
    bytes: int


class Done(NamedTuple):
    """What became of a file: its length, and how many samples were clipped at full scale."""

    seconds: float
    clipped: int


class FolderPlan(NamedTuple):
    """The work in a folder: what is to do, how many files are there already, what cannot be done."""

    jobs: list[Job]
    left: int
    refused: list[str]


def restore_file(restorer: Restorer, job: Job, wanted: Wanted, told: Told) -> Done:
    """Write ``job.source`` restored to ``job.target``: its length, channels and, if not told, rate.

    The target appears whole or not at all. ``-`` is standard input or output.

    Raises:
        FileNotFoundError, OSError: the source cannot be read or the target not written.
        AudioError: the source is no usable audio, or the target's format cannot hold it.
    """
    with open_sound(job.source) as sound:
        rate = sound.info.sample_rate
        like = length_at(sound.info, wanted.rate or rate)
        with create(job.target, like) as writer:
            written = 0
            try:
                blocks = restorer.blocks(lambda: sound.blocks(block_size(rate)), rate, wanted)
                for block in blocks:
                    writer.write(block)
                    written += block.shape[1]
                    told(min(written / like.samples, 1.0))
            except AudioError as error:
                # Of the signal itself, such as its rate.
                if sound.name in str(error):
                    raise
                raise AudioError(f"{sound.name}: {error}") from None
        return Done(sound.info.samples / rate, writer.clipped)


def plan_folder(source: str, target: str) -> FolderPlan:
    """Return the work that restoring every audio file below ``source`` to ``target`` is.

    Files that are there already are left, whatever made them.

    Raises:
        ConfigError: there is no audio, or the target lies in the source.
    """
    if _lies_in(target, source):
        raise ConfigError(f"{target}: lies in the input folder {source}; choose a place outside it")
    # What killed runs left.
    storage.remove_stale_temporaries(target)
    files = [file for file in storage.find_files(source) if audio.is_audio_name(file.path)]
    if not files:
        raise ConfigError(f"{source}: no audio in it")
    there = {file.path for file in storage.find_files(target)}
    jobs, refused = [], []
    for file in files:
        url = storage.join(source, file.path)
        if not is_below(file.path):
            refused.append(f"{url}: its name leads out of the folder; not restored")
        elif file.path not in there:
            jobs.append(Job(url, storage.join(target, file.path), file.bytes))
    return FolderPlan(jobs, len(files) - len(jobs) - len(refused), refused)


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


def _lies_in(target: str, source: str) -> bool:
    inner, outer = _one_path(target), _one_path(source)
    return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")


def _one_path(url: str) -> str:
    """Return one spelling of a local path; a URL as it is."""
    return str(storage.local_path(url).resolve()) if storage.is_local(url) else url
