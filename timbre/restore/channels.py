"""What the channels of a signal have in common: whether they are equal, or alike."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import sine_window

# Channels are alike from here on. One voice in both, at 0 to 12 dB between them and 10 to 40 dB over
# noise of their own, has 0.75 to 1; two voices, one a channel, 0.1 to 0.3.
ALIKE = 0.7
LOWEST_HZ, HIGHEST_HZ = 100, 4000
# Spectra of both channels are compared over about so many frames of 10 ms.
COHERENCE_FRAMES = 10
TINY = 1e-30


class Likeness:
    """How alike two channels are, 0 to 1: the mean coherence of their spectra, weighted by level.

    It counts 100 to 4000 Hz. Level and delay between the channels do not change it, noise of their own
    and different voices do. Silence has none, nor the first 0.1 s.

    Args:
        sample_rate: of the channels, in Hz.
        memory_frames: about how many frames of 10 ms count; None for all.
    """

    def __init__(self, sample_rate: int = SAMPLE_RATE, memory_frames: int | None = None) -> None:
        self._hop = max(sample_rate // 100, 1)
        self._window = sine_window(self._hop).numpy()
        bin_hz = sample_rate / (2 * self._hop)
        self._bins = slice(round(LOWEST_HZ / bin_hz), round(HIGHEST_HZ / bin_hz) + 1)
        self._keep = 1 - 1 / memory_frames if memory_frames else 1.0
        self._rest: Wave = np.zeros((2, 0), np.float32)
        self._frames = 0
        self._cross: NDArray[np.complex128] = np.zeros(1, np.complex128)
        self._power: NDArray[np.float64] = np.zeros((2, 1))
        self._common = self._whole = 0.0

    def add(self, block: Wave) -> None:
        """Add the next ``(2, any)``."""
        signal = np.concatenate([self._rest, block], axis=1)
        frames = max(signal.shape[1] // self._hop - 1, 0)
        for first in range(0, frames * self._hop, self._hop):
            self._add_frame(signal[:, first : first + 2 * self._hop])
        self._rest = signal[:, frames * self._hop :].copy()

    def value(self) -> float:
        """Return the likeness of what came so far."""
        return self._common / self._whole if self._whole > TINY else 0.0

    def _add_frame(self, frame: Wave) -> None:
        spectra = np.fft.rfft(frame * self._window)[:, self._bins]
        keep = 1 - 1 / COHERENCE_FRAMES
        self._cross = keep * self._cross + spectra[0] * spectra[1].conj()
        self._power = keep * self._power + np.square(np.abs(spectra))
        self._frames += 1
        # One frame alone is coherent whatever it holds.
        if self._frames > COHERENCE_FRAMES:
            both = np.sqrt(self._power[0] * self._power[1])
            self._common = self._keep * self._common + float(np.abs(self._cross).sum())
            self._whole = self._keep * self._whole + float(both.sum())


class Channels:
    """What a signal's rows have in common, from a look at all of it.

    Args:
        sample_rate: of the signal, in Hz.
        channels: of each of the signals that lie in its rows, one behind the other; None for all.
        link: whether pairs of channels are linked; None where they are alike.

    Attributes:
        rows: those to work on: of a signal with equal channels the first.
        spread: which of ``rows`` each row is.
        pairs: where in ``rows`` the linked pairs begin.
    """

    def __init__(self, sample_rate: int, channels: int | None, link: bool | None) -> None:
        self._sample_rate, self._channels, self._link = sample_rate, channels, link
        self.rows: list[int] = []
        self.spread: list[int] = []
        self.pairs: list[int] = []

    def watch(self, blocks: Iterable[Wave]) -> Iterator[Wave]:
        """Yield a signal's blocks as they are; with the last one the attributes are there."""
        equal: NDArray[np.bool_] | None = None
        likenesses: list[Likeness] = []
        for block in blocks:
            channels = self._channels or len(block)
            signals = block.reshape(-1, channels, block.shape[1])
            if equal is None:
                equal = np.ones(len(signals), bool)
                if channels == 2 and self._link is None:
                    likenesses = [Likeness(self._sample_rate) for _ in signals]
            equal &= (signals == signals[:, :1]).all(axis=(1, 2))
            for signal, likeness, is_equal in zip(signals, likenesses, equal, strict=False):
                if not is_equal:
                    likeness.add(signal)
            yield block
        if equal is not None:
            self._decide(channels, equal, likenesses)

    def _decide(self, channels: int, equal: NDArray[np.bool_], likenesses: list[Likeness]) -> None:
        for index, is_equal in enumerate(equal):
            first, place = index * channels, len(self.rows)
            if is_equal:
                self.rows.append(first)
                self.spread += [place] * channels
                continue
            self.rows += range(first, first + channels)
            self.spread += range(place, place + channels)
            alike = likenesses[index].value() >= ALIKE if likenesses else bool(self._link)
            if channels == 2 and alike:
                self.pairs.append(place)
