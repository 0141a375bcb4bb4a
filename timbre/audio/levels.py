"""Levels in dB: of a whole waveform, of one that comes in blocks, and the working level."""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timbre.audio.resample import resample_blocks
from timbre.audio.waveform import SAMPLE_RATE, Wave

SILENCE_DB = -200.0
# Frames this far under the loudest do not count towards the level of speech.
SPEECH_RANGE_DB = 40.0
LEVEL_FRAME = 960
# Both networks were trained at this level of speech, and see every signal at it.
WORKING_LEVEL_DB = -25.0
# An offset counts from here on, relative to the level of speech: at -36 dB it changed what
# DeepFilterNet3 leaves above 60 Hz by -31 dB. In a signal shorter than this, the mean must also be
# so many standard errors from 0: a few syllables have a mean of their own.
OFFSET_RANGE_DB = -50.0
OFFSET_SECONDS = 2.0
OFFSET_ERRORS = 6.0
# A silent or nearly silent channel is not raised by more than this.
MAX_GAIN_DB = 60.0


def level_db(wave: Wave) -> float:
    """Return the root-mean-square level in dB relative to full scale; digital silence is -200."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if wave.size else 0.0
    return max(10 * math.log10(power), SILENCE_DB) if power > 0 else SILENCE_DB


def loudest_start(wave: Wave, samples: int) -> int:
    """Return where the loudest stretch of ``samples`` of ``(samples,)`` begins, to half a second."""
    starts = range(0, max(len(wave) - samples, 0) + 1, SAMPLE_RATE // 2)
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    return max(starts, key=lambda start: energy[min(start + samples, len(wave))] - energy[start])


def active_level_db(wave: Wave) -> float:
    """Return the level of the 20-ms frames of ``(samples,)`` within 40 dB of the loudest, in dBFS.

    This is the level of speech, whatever its pauses.
    """
    meter = ActiveLevel()
    meter.add(wave[None])
    return meter.level_db()[0]


def gain(decibel: float) -> float:
    """Return the factor that changes a level by ``decibel``."""
    return float(10 ** (decibel / 20))


class LevelPlan(NamedTuple):
    """How a signal is brought to the working level: less ``offsets``, times ``gains``.

    Attributes:
        samples: the signal's length.
        gains: ``(rows, 1)``.
        offsets: ``(rows, 1)``, each row's constant offset where it would change what the networks
            make of the rest, 0 elsewhere.
    """

    samples: int
    gains: Tensor
    offsets: Tensor


def working_level(blocks: Iterable[Wave], sample_rate: int) -> LevelPlan:
    """Return how to bring each row of a signal in blocks to the working level."""
    samples, sums = 0, np.zeros(1)

    def count_blocks() -> Iterator[Wave]:
        nonlocal samples, sums
        for block in blocks:
            samples += block.shape[1]
            sums = sums + block.sum(axis=1, dtype=np.float64)
            yield block

    meter = ActiveLevel()
    for block in resample_blocks(count_blocks(), sample_rate, SAMPLE_RATE):
        meter.add(block)
    means = sums / max(samples, 1)
    without = meter.level_db(means)
    counts = np.abs(means) > [gain(level + OFFSET_RANGE_DB) for level in without]
    if samples < OFFSET_SECONDS * sample_rate:
        counts &= np.abs(means) > OFFSET_ERRORS * meter.mean_errors()
    levels = np.where(counts, without, meter.level_db())
    gains = [gain(min(WORKING_LEVEL_DB - float(level), MAX_GAIN_DB)) for level in levels]
    offsets = torch.from_numpy(np.where(counts, means, 0.0)).float()
    return LevelPlan(samples, torch.tensor(gains)[:, None], offsets[:, None])


class ActiveLevel:
    """The :func:`active_level_db` of every row of a signal that comes in blocks, however it is cut.

    A frame of a row takes 16 bytes: 2.9 MB an hour.
    """

    def __init__(self) -> None:
        self._powers: list[NDArray[np.float64]] = []
        self._means: list[NDArray[np.float64]] = []
        self._rest: Wave | None = None

    def add(self, block: Wave) -> None:
        """Add the next ``(rows, samples)``."""
        signal = block if self._rest is None else np.concatenate([self._rest, block], axis=1)
        whole = signal.shape[1] // LEVEL_FRAME * LEVEL_FRAME
        frames = signal[:, :whole].reshape(len(signal), -1, LEVEL_FRAME)
        self._powers.append(np.square(frames, dtype=np.float64).mean(axis=2))
        self._means.append(frames.mean(axis=2, dtype=np.float64))
        self._rest = signal[:, whole:].copy()

    def mean_errors(self) -> NDArray[np.float64]:
        """Return the standard error of every row's mean ``(rows,)``; infinite for a frame or less."""
        means = np.concatenate(self._means, axis=1)
        frames = means.shape[1]
        if frames < 2:
            return np.full(len(means), np.inf)
        errors: NDArray[np.float64] = means.std(axis=1, ddof=1) / math.sqrt(frames)
        return errors

    def level_db(self, offsets: NDArray[np.float64] | None = None) -> list[float]:
        """Return the level of every row so far; of each row less its offset ``(rows,)``."""
        powers = np.concatenate(self._powers, axis=1)
        if powers.shape[1] == 0:
            assert self._rest is not None
            rest = self._rest if offsets is None else self._rest - offsets[:, None]
            return [level_db(row) for row in rest]
        if offsets is not None:
            offset = offsets[:, None]
            means = np.concatenate(self._means, axis=1)
            powers = np.maximum(powers - 2 * offset * means + offset**2, 0.0)
        return [_active_db(row) for row in powers]


def _active_db(power: NDArray[np.float64]) -> float:
    active = power[power > power.max() * 10 ** (-SPEECH_RANGE_DB / 10)]
    if not len(active):
        return SILENCE_DB
    return max(10 * math.log10(active.mean()), SILENCE_DB)
