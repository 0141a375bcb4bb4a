"""A signal in blocks ``(rows, samples)``, cut another way."""

from collections.abc import Iterable, Iterator

import numpy as np

from timbre.audio.waveform import Wave


def split(wave: Wave, samples: int) -> Iterator[Wave]:
    """Yield ``(rows, any)`` in blocks of so many samples, the last one shorter."""
    for first in range(0, wave.shape[1], samples):
        yield wave[:, first : first + samples]


def cut(blocks: Iterable[Wave], samples: int) -> Iterator[Wave]:
    """Yield the first so many samples of a signal."""
    for block in blocks:
        if samples:
            yield block[:, :samples]
            samples -= min(block.shape[1], samples)


def regroup(blocks: Iterable[Wave], samples: int) -> Iterator[Wave]:
    """Yield a signal in blocks of exactly so many samples, the last one shorter."""
    held: Wave | None = None
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=1)
        while held.shape[1] >= samples:
            yield held[:, :samples]
            held = held[:, samples:]
    if held is not None and held.shape[1]:
        yield held


def aligned(
    one: Iterable[Wave], other: Iterable[Wave], samples: int
) -> Iterator[tuple[Wave, Wave]]:
    """Yield two signals of one length side by side, so many samples at a time."""
    yield from zip(regroup(one, samples), regroup(other, samples), strict=True)
