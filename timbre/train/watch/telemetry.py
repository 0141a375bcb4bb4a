"""What the user sees of a run: progress bar, and scalars, pictures and sound in trackers."""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from timbre.audio import SAMPLE_RATE, Wave, spectrogram
from timbre.plain_text import printable
from timbre.train.watch.event_files import EventFiles
from timbre.train.watch.rank_log import RankLog
from timbre.train.watch.trackers import (
    TENSORBOARD,
    TrackedRun,
    Tracker,
    TrackerName,
    open_trackers,
)

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
    """The main process's trackers and progress bar, and each rank's log.

    Args:
        run: what is logged; None writes and shows nothing.
        steps: where the run ends.
        names: the trackers.
        accelerator: places this process; the first is the main one.

    Raises:
        WorkError: a tracker cannot be started; and, of all methods that write some, event files or
            a log cannot be written.
    """

    def __init__(
        self,
        run: TrackedRun | None,
        steps: int,
        names: Sequence[TrackerName],
        accelerator: Accelerator,
    ) -> None:
        self._main = accelerator.is_main_process and run is not None
        self._sounds_so_far: set[str] = set()
        self.log = RankLog(run.run_dir if run else None, accelerator.process_index)
        self._events: EventFiles | None = None
        self._trackers: list[Tracker] = []
        if self._main and run is not None:
            self._trackers = open_trackers(names, run, accelerator, self.line)
            if TENSORBOARD in names:
                self._events = EventFiles(run.run_dir, run.first)
        hidden = None if self._main else True  # None: hidden where there is no terminal
        first = run.first if run else 0
        self.bar = tqdm(total=steps, initial=first, desc="train", unit="step", disable=hidden)

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Log scalars under their names."""
        for tracker in self._all():
            tracker.scalars(metrics, step)

    def pair(self, key: str, sides: Mapping[str, Wave], step: int) -> None:
        """Log a pair's ``degraded``, ``restored`` and ``clean`` ``(samples,)`` under its key.

        Its first eight seconds, as one picture, from top to bottom, and as sound: the restored side
        each time, the others, which stay as they are, once.
        """
        if not (trackers := self._all()):
            return
        excerpts = {name: wave[: SHOWN_SECONDS * SAMPLE_RATE] for name, wave in sides.items()}
        picture = stack_pictures(list(excerpts.values()))
        for name, wave in excerpts.items():
            tag = f"pair/{key}/{name}"
            if name == "restored" or tag not in self._sounds_so_far:
                for tracker in trackers:
                    tracker.sound(tag, wave, step)
                self._sounds_so_far.add(tag)
        for tracker in trackers:
            tracker.picture(f"pair/{key}/{'_'.join(excerpts)}", picture, step)

    def line(self, message: str) -> None:
        """Print a line above the bar on the main process, and log it on every rank that has it."""
        if self._main:
            self.bar.write(printable(message), file=sys.stderr)
        self.log.write(message)

    def advance(self, message: str | None = None) -> None:
        """Move the bar one step on."""
        if message:
            self.bar.set_postfix_str(message, refresh=False)
        self.bar.update()

    def flush(self) -> None:
        """Write out what waits to be written."""
        if self._events:
            self._events.flush()

    def close(self) -> None:
        """Flush everything."""
        for tracker in self._all():
            tracker.close()
        self.bar.close()
        self.log.close()

    def _all(self) -> list[EventFiles | Tracker]:
        return [*([self._events] if self._events else []), *self._trackers]


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
