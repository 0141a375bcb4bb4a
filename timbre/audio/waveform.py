"""What a waveform is in timbre: the rate, the types, 16-bit samples, and signals in blocks."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 48_000
# 10 ms: what a network by hop takes at a time.
HOP = SAMPLE_RATE // 100

Wave = NDArray[np.float32]
Int16Wave = NDArray[np.int16]


def to_int16(wave: Wave) -> Int16Wave:
    """Return the 16-bit samples nearest to ``wave``; what FLAC and WAV shards hold."""
    scaled: Int16Wave = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
    return scaled


def from_int16(wave: Int16Wave) -> Wave:
    """Return 16-bit samples as float32 in [-1, 1]; :func:`to_int16` gives them back."""
    return wave.astype(np.float32) / np.float32(32768)


def split(wave: Wave, samples: int) -> Iterator[Wave]:
    """Yield ``(rows, any)`` in blocks of ``samples``; the last one is shorter."""
    for first in range(0, wave.shape[1], samples):
        yield wave[:, first : first + samples]


def first_samples(blocks: Iterable[Wave], samples: int) -> Iterator[Wave]:
    """Yield the first ``samples`` of a signal that comes in blocks ``(rows, any)``."""
    for block in blocks:
        if samples:
            yield block[:, :samples]
            samples -= min(block.shape[1], samples)


def regroup(blocks: Iterable[Wave], samples: int) -> Iterator[Wave]:
    """Yield a signal in blocks of exactly ``samples``; the last one is shorter."""
    rest: Wave | None = None
    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block], axis=1)
        while rest.shape[1] >= samples:
            yield rest[:, :samples]
            rest = rest[:, samples:]
    if rest is not None and rest.shape[1]:
        yield rest


def side_by_side(
    one: Iterable[Wave], other: Iterable[Wave], samples: int
) -> Iterator[tuple[Wave, Wave]]:
    """Yield two signals of one length together, ``samples`` of each at a time."""
    yield from zip(regroup(one, samples), regroup(other, samples), strict=True)
