"""One uploaded file restored: the file that ``timbre restore`` gives, and a page that compares it."""

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from timbre import audio
from timbre.denoiser_names import DF3
from timbre.errors import AudioError, ConfigError, TimbreError
from timbre.models import OFFLINE
from timbre.restore import Restorer
from timbre.restore.files import FileTask, restore_file
from timbre.restore.output import Output
from timbre.restore.pool import RestorerSettings, first_line
from timbre.torch_settings import usable_device
from timbre.ui.compare import to_html

Progress = Callable[[float, str], None]

# Networks keep state while they run, so files take turns; two restorers stay loaded.
_TURN = threading.Lock()
RESTORERS = 2


class Choice(NamedTuple):
    """What a visitor chose, as the options of ``timbre restore`` name it."""

    checkpoint: str = OFFLINE
    denoiser: str = DF3
    strength: float = 1.0
    dry: float = 0.0
    max_lift_db: float | None = None


class Limits(NamedTuple):
    """How large and long an upload may be."""

    megabytes: int = 200
    minutes: int = 30


class Restored(NamedTuple):
    """The restored file, a page that plays before, denoised and after, and notes on the file."""

    path: Path
    comparison: str
    notes: tuple[str, ...]


def restore_upload(
    source: Path, choice: Choice, limits: Limits, folder: Path, progress: Progress
) -> Restored:
    """Return a file restored as ``timbre restore`` does, bit for bit, in ``folder``.

    The upload is deleted, whatever becomes of it. Files take turns.

    Raises:
        TimbreError: the file or a choice cannot be used; the message names the file without its
            folder.
    """
    try:
        return _restore(source, choice, limits, folder, progress)
    except (TimbreError, OSError) as error:
        raise AudioError(_without_folder(str(error), source)) from None
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise AudioError(f"{source.name}: {first_line(error)}") from None
    finally:
        source.unlink(missing_ok=True)


def _restore(
    source: Path, choice: Choice, limits: Limits, folder: Path, progress: Progress
) -> Restored:
    check_size(source, limits)
    output = Output(choice.strength, choice.dry)
    progress(0.0, "waits for its turn")
    with _TURN:
        restorer = _load(choice)
        target = folder / f"{source.stem}-restored.wav"
        result = _run(restorer, source, target, output, lambda share: progress(share, "restored"))
        denoised = folder / "denoised.wav"
        _run(restorer, source, denoised, Output(0.0), lambda share: progress(share, "compared"))
    sides = {"Before": source, f"Denoised ({choice.denoiser})": denoised, "After": target}
    comparison = to_html(sides)
    denoised.unlink()
    notes = [*result, *([restorer.warning] if restorer.warning else [])]
    return Restored(target, comparison, tuple(notes))


def check_size(source: Path, limits: Limits) -> None:
    """Do nothing if a file is within the limits.

    Raises:
        ConfigError: it is too large or too long.
        AudioError: it is no audio.
    """
    megabytes = source.stat().st_size / 1e6
    if megabytes > limits.megabytes:
        raise ConfigError(
            f"{source.name} has {megabytes:.0f} MB; this page takes up to {limits.megabytes}. "
            "`timbre restore` takes files of any size"
        )
    info = audio.info(source)
    minutes = info.samples / info.sample_rate / 60
    if minutes > limits.minutes:
        raise ConfigError(
            f"{source.name} has {minutes:.1f} minutes; this page takes up to {limits.minutes}. "
            "`timbre restore` takes files of any length"
        )


def _run(
    restorer: Restorer, source: Path, target: Path, output: Output, share: Callable[[float], None]
) -> list[str]:
    task = FileTask(str(source), str(target), source.stat().st_size)
    result = restore_file(restorer, task, output, share)
    clipped = f"{result.clipped_samples} samples were beyond full scale and are clipped"
    return [*result.notes, *([clipped] if result.clipped_samples else [])]


def _load(choice: Choice) -> Restorer:
    device = str(usable_device(None))
    return _loaded(
        RestorerSettings(choice.checkpoint, choice.denoiser, device, max_lift_db=choice.max_lift_db)
    )


@lru_cache(maxsize=RESTORERS)
def _loaded(settings: RestorerSettings) -> Restorer:
    return settings.load()


def _without_folder(text: str, source: Path) -> str:
    """Return a message in which an upload goes by its own name: where it lay is nobody's business."""
    return text.replace(str(source), source.name).replace(f"{source.parent}/", "")
