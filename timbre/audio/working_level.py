"""The level at which both networks see speech: that which they were trained at."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from timbre.audio.levels import ActiveLevel, gain
from timbre.audio.resample import resample_blocks
from timbre.audio.waveform import SAMPLE_RATE, Wave

WORKING_LEVEL_DB = -25.0
# A silent or nearly silent channel is not raised by more than this.
MAX_GAIN_DB = 60.0


def measure(blocks: Iterable[Wave], sample_rate: int) -> tuple[int, Tensor]:
    """Return a signal's length and the gain ``(rows, 1)`` that brings each row to the working level."""
    samples = 0

    def counted() -> Iterator[Wave]:
        nonlocal samples
        for block in blocks:
            samples += block.shape[1]
            yield block

    meter = ActiveLevel()
    for block in resample_blocks(counted(), sample_rate, SAMPLE_RATE):
        meter.add(block)
    raised = [min(WORKING_LEVEL_DB - level, MAX_GAIN_DB) for level in meter.level_db()]
    return samples, torch.tensor([[gain(decibel)] for decibel in raised])
