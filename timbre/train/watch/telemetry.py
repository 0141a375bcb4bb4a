"""What the user sees of a run: progress bar, scalars, pictures and sound in TensorBoard."""

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from timbre import storage
from timbre.audio import SAMPLE_RATE, Wave, spectrogram
from timbre.errors import WorkError
from timbre.plain_text import printable
from timbre.train.watch.rank_log import RankLog

FOLDER = "tensorboard"
SHOWN_SECONDS = 8


class Meter:
    """Sums metrics on the device between logging steps, so that a step never waits for it.

    Values that are not finite are left out: a step that was skipped does not hide the others.
    """

    def __init__(self) -> None:
        # By the names of a step's scalars: their sums and how many there were, (2, names).
        self.sums: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Add one step's scalars."""
        values = torch.stack([*metrics.values()])
        mine = torch.stack([values.nan_to_num(0.0, 0.0, 0.0), values.isfinite().float()])
        names = (*metrics,)
        self.sums[names] = self.sums[names] + mine if names in self.sums else mine

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means since the last call, over all ranks (a sync point).

        NaN where no step had a finite value.
        """
        by_name: dict[str, Tensor] = {}
        for own, sums in self.sums.items():
            for name, one in zip(own, sums.unbind(1), strict=True):
                by_name[name] = by_name[name] + one if name in by_name else one
        names = sorted(by_name)
        sums = accelerator.reduce(torch.stack([by_name[name] for name in names]), "sum")
        self.sums = {}
        return dict(zip(names, (sums[:, 0] / sums[:, 1]).tolist(), strict=True))


class Telemetry:
    """The main process's event files and progress bar, and each rank's log.

    Args:
        run_dir: event files go to ``RUN/tensorboard``; None writes and shows nothing.
        first, steps: where the run is and where it ends.
        rank: of this process; 0 is the main one.

    Raises:
        WorkError: event files cannot be written; so do all methods that write some.
    """

    def __init__(self, run_dir: str | None, first: int, steps: int, rank: int) -> None:
        main = rank == 0 and run_dir is not None
        self.log = RankLog(run_dir, rank)
        self.events = EventFiles(run_dir, first) if main and run_dir is not None else None
        self.figures_so_far: set[str] = set()
        hidden = None if main else True  # None: hidden where there is no terminal
        self.bar = tqdm(total=steps, initial=first, desc="train", unit="step", disable=hidden)

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Write scalars under their names."""
        if self.events:
            with self.events.use_writer() as writer:
                for name, value in metrics.items():
                    writer.add_scalar(name, value, step)

    def pair(self, key: str, sides: Mapping[str, Wave], step: int) -> None:
        """Write a pair's ``degraded``, ``restored`` and ``clean`` ``(samples,)`` under its key.

        Its first eight seconds, as one picture, from top to bottom, and as sound: the restored side
        each time, the others, which stay as they are, once.
        """
        if not self.events:
            return
        excerpts = {name: wave[: SHOWN_SECONDS * SAMPLE_RATE] for name, wave in sides.items()}
        picture = stack_pictures(list(excerpts.values()))
        with self.events.use_writer() as writer:
            for name, wave in excerpts.items():
                if name == "restored" or f"{key}/{name}" not in self.figures_so_far:
                    writer.add_audio(f"pair/{key}/{name}", wave[None], step, SAMPLE_RATE)
                    self.figures_so_far.add(f"{key}/{name}")
            title = f"pair/{key}/{'_'.join(excerpts)}"
            writer.add_image(title, picture, step, dataformats="HWC")

    def line(self, message: str) -> None:
        """Print a line above the bar on the main process, and log it on every rank that has it."""
        if self.events:
            self.bar.write(printable(message), file=sys.stderr)
        self.log.write(message)

    def advance(self, message: str | None = None) -> None:
        """Move the bar one step on."""
        if message:
            self.bar.set_postfix_str(message, refresh=False)
        self.bar.update()

    def flush(self) -> None:
        """Write out what waits to be written."""
        if self.events:
            with self.events.use_writer() as writer:
                writer.flush()

    def close(self) -> None:
        """Flush everything."""
        self.bar.close()
        self.log.close()
        if self.events:
            self.events.close()


class EventFiles:
    """TensorBoard's writer, whose errors name the folder.

    It writes in a thread, which prints a traceback where the disk is full; the error itself comes
    with the next call. The traceback is left out.
    """

    def __init__(self, run_dir: str, first: int) -> None:
        local = storage.is_local(run_dir)
        self.folder = storage.join(str(storage.local_path(run_dir)) if local else run_dir, FOLDER)
        self._former, threading.excepthook = threading.excepthook, self._hook
        try:
            with self._name_in_errors():
                self._writer = SummaryWriter(self.folder, purge_step=first + 1)
        except WorkError:
            threading.excepthook = self._former
            raise

    @contextmanager
    def use_writer(self) -> Iterator[SummaryWriter]:
        """Give the writer; what it raises names the folder."""
        with self._name_in_errors():
            yield self._writer

    def close(self) -> None:
        """Write out the rest; what could not be written by now has been reported."""
        with suppress(WorkError), self._name_in_errors():
            self._writer.close()
        threading.excepthook = self._former

    @contextmanager
    def _name_in_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkError(
                f"{self.folder}: cannot be written: {error.strerror or error}"
            ) from error

    def _hook(self, arguments: "threading.ExceptHookArgs") -> None:
        if not isinstance(arguments.exc_value, OSError):
            self._former(arguments)


def stack_pictures(waves: Sequence[Wave]) -> NDArray[np.uint8]:
    """Return the spectrograms of ``(samples,)`` each, all of one length, on top of each other.

    All are drawn in one range of levels, that of the last one, so that their colours compare.
    """
    full = spectrogram.peak_power(waves[-1])
    pictures = [spectrogram.picture(spectrogram.levels(wave, full)) for wave in waves]
    line = np.full((2, pictures[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (line, picture)][1:], axis=0)


def to_wave(tensor: Tensor) -> Wave:
    """Return ``(1, 1, samples)`` as ``(samples,)`` on the host, within full scale; NaN is silent."""
    wave: Wave = tensor.detach().float().flatten().nan_to_num(0).clamp(-1, 1).cpu().numpy()
    return wave
