"""A signal of any length through the denoiser and a generator, with no more in memory than a chunk.

Each stage takes a signal in blocks and gives blocks of its own sizes, as many samples in all: cutting
does not change them, to rounding.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from timbre.audio import HOP
from timbre.denoise.by_hop import DenoiserStep
from timbre.restore.hop_runner import HopStream

# What a generator makes of a window: ``(rows, samples)`` of ``(signals, rows, samples)``.
Generate = Callable[[Tensor], Tensor]


class Window(NamedTuple):
    """How a generator's input is cut, in samples, all multiples of a hop.

    ``before`` and ``after`` are what it must hear on either side of ``samples`` for these to be
    right.
    """

    samples: int
    before: int
    after: int


def window_of(samples: int, history_samples: int, latency_samples: int) -> Window:
    """Return the window for a generator that hears so far back and ahead, at most ``samples`` new.

    Rounded to hops, on which a generator's frames lie.
    """
    before, after = (-(-reach // HOP) * HOP for reach in (history_samples, latency_samples))
    return Window(max(samples // HOP, 1) * HOP, before, after)


def denoise_blocks(step: DenoiserStep, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield ``(2, rows, samples)``, denoised and as it was, of ``(rows, samples)`` at 48 kHz."""
    stream: HopStream | None = None
    waiting: Tensor | None = None
    for block in blocks:
        stream = stream or HopStream(step, len(block))
        waiting = block if waiting is None else torch.cat([waiting, block], dim=1)
        ready = stream.push(block)
        if ready.shape[1]:
            yield torch.stack([ready, waiting[:, : ready.shape[1]]])
            waiting = waiting[:, ready.shape[1] :]
    if stream is not None and waiting is not None:
        yield torch.stack([stream.flush(), waiting])


def generate_blocks(
    generate: Generate, blocks: Iterable[Tensor], window: Window
) -> Iterator[Tensor]:
    """Yield ``(2, rows, samples)``: the first signal of ``blocks``, and what is generated of all.

    Args:
        generate: gives the same of a window as of the whole, but for its ends.
        blocks: ``(signals, rows, samples)``.
        window: as :func:`window_of` returns it for ``generate``.
    """
    held: Tensor | None = None
    begun = 0  # samples at the front of what is held that are out
    for block in blocks:
        held = block if held is None else torch.cat([held, block], dim=2)
        while held.shape[2] >= (end := begun + window.samples) + window.after:
            ready = generate(held[:, :, : end + window.after])
            yield torch.stack([held[0, :, begun:end], ready[:, begun:end]])
            dropped = max(end - window.before, 0)
            held, begun = held[:, :, dropped:], end - dropped
    if held is not None and held.shape[2] > begun:
        yield torch.stack([held[0, :, begun:], generate(held)[:, begun:]])
