"""What the user sees of a run: progress bar, scalars, pictures and sound in TensorBoard."""

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from timbre.audio import SAMPLE_RATE, Wave
from timbre.plain_text import printable
from timbre.train.watch.rank_log import RankLog

# A colour map from black over purple and orange to white, for levels from -90 to 0 dB.
COLOURS = np.array(
    [[0, 0, 0], [60, 15, 110], [180, 50, 90], [250, 150, 40], [255, 255, 220]], np.float32
)
PICTURE_RANGE_DB = 90.0
PICTURE_FFT, PICTURE_HOP = 1024, 512
TINY = 1e-12
SHOWN_SECONDS = 8


class Meter:
    """Sums metrics on the device between logging steps, so that a step never waits for it.

    Values that are not finite are left out: a step that was skipped does not hide the others.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Add one step's scalars."""
        for name, value in metrics.items():
            detached = value.detach().float()
            finite = detached.isfinite()
            mine = torch.stack([detached.masked_fill(~finite, 0.0), finite.float()])
            self.sums[name] = self.sums[name] + mine if name in self.sums else mine

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means since the last call, over all ranks (a sync point).

        NaN where no step had a finite value.
        """
        names = sorted(self.sums)
        sums = accelerator.reduce(torch.stack([self.sums[name] for name in names]), "sum")
        self.sums = {}
        return dict(zip(names, (sums[:, 0] / sums[:, 1]).tolist(), strict=True))


class Telemetry:
    """The main process's writer and progress bar, and each rank's log.

    Args:
        run_dir: event files go to ``RUN/tensorboard``.
        first, steps: where the run is and where it ends.
        rank: of this process; 0 is the main one.
    """

    def __init__(self, run_dir: str, first: int, steps: int, rank: int) -> None:
        main = rank == 0
        self.log = RankLog(run_dir, rank)
        self.writer = (
            SummaryWriter(f"{run_dir}/tensorboard", purge_step=first + 1) if main else None
        )
        self.written: set[str] = set()
        hidden = None if main else True  # None: hidden where there is no terminal
        self.bar = tqdm(total=steps, initial=first, desc="train", unit="step", disable=hidden)

    def scalars(self, metrics: Mapping[str, float], step: int) -> None:
        """Write scalars under their names."""
        if self.writer:
            for name, value in metrics.items():
                self.writer.add_scalar(name, value, step)

    def pair(self, key: str, sides: Mapping[str, Wave], step: int) -> None:
        """Write a pair's ``degraded``, ``restored`` and ``clean`` ``(samples,)`` under its key.

        Its first eight seconds, as one picture, from top to bottom, and as sound: the restored side
        each time, the others, which stay as they are, once.
        """
        if not self.writer:
            return
        shown = {name: wave[: SHOWN_SECONDS * SAMPLE_RATE] for name, wave in sides.items()}
        for name, wave in shown.items():
            if name == "restored" or f"{key}/{name}" not in self.written:
                self.writer.add_audio(f"pair/{key}/{name}", wave[None], step, SAMPLE_RATE)
                self.written.add(f"{key}/{name}")
        title = f"pair/{key}/{'_'.join(shown)}"
        self.writer.add_image(title, triple(list(shown.values())), step, dataformats="HWC")

    def say(self, message: str) -> None:
        """Print a line above the bar on the main process, and log it on every rank that says it."""
        self.log.write(message)
        if self.writer:
            self.bar.write(printable(message), file=sys.stderr)

    def advance(self, message: str | None = None) -> None:
        """Move the bar one step on."""
        if message:
            self.bar.set_postfix_str(message, refresh=False)
        self.bar.update()

    def flush(self) -> None:
        """Write out what waits to be written."""
        if self.writer:
            self.writer.flush()

    def close(self) -> None:
        """Flush everything."""
        self.bar.close()
        self.log.close()
        if self.writer:
            self.writer.close()


def triple(waves: Sequence[Wave]) -> NDArray[np.uint8]:
    """Return the spectrograms of ``(samples,)`` each, all of one length, on top of each other.

    All are drawn in one range of levels, that of the last one, so that their colours compare.
    """
    full = float(_power(waves[-1]).max())
    pictures = [spectrogram(wave, full) for wave in waves]
    line = np.full((2, pictures[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (line, picture)][1:], axis=0)


def spectrogram(wave: Wave, full: float | None = None) -> NDArray[np.uint8]:
    """Return a picture ``(513, frames, 3)`` of ``(samples,)``: 0 Hz at the bottom, 90 dB range.

    Args:
        wave: ``(samples,)``.
        full: the power of the last colour; None: the highest of this wave.
    """
    power = _power(wave)
    full = float(power.max()) if full is None else full
    decibel = 10 * np.log10(np.maximum(power, TINY) / max(full, TINY))
    level = np.clip(1 + decibel / PICTURE_RANGE_DB, 0, 1) * (len(COLOURS) - 1)
    anchors = np.arange(len(COLOURS))
    picture = np.stack([np.interp(level, anchors, COLOURS[:, c]) for c in range(3)], axis=-1)
    image: NDArray[np.uint8] = picture.astype(np.uint8)
    return image


def _power(wave: Wave) -> NDArray[np.float64]:
    """Return the power spectrum ``(513, frames)``, 24 kHz first."""
    padded = np.pad(wave, (0, max(PICTURE_FFT - len(wave), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, PICTURE_FFT)[::PICTURE_HOP]
    magnitudes: NDArray[np.float64] = np.abs(np.fft.rfft(frames * np.hanning(PICTURE_FFT), axis=1))
    power: NDArray[np.float64] = magnitudes.T[::-1] ** 2
    return power


def to_wave(tensor: Tensor) -> Wave:
    """Return ``(1, 1, samples)`` as ``(samples,)`` on the host, within full scale; NaN is silent."""
    wave: Wave = tensor.detach().float().flatten().nan_to_num(0).clamp(-1, 1).cpu().numpy()
    return wave
