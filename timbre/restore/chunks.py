"""A signal of any length through the denoiser and a generator, with no more in memory than a chunk.

Each stage takes a signal in blocks and yields blocks of its own sizes, as many samples in all. How the
signal is cut changes nothing but rounding.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from timbre.audio import HOP, SAMPLE_RATE
from timbre.denoise import ByHop, Denoiser
from timbre.restore.hop_runner import HopRunner
from timbre.restore.output import block_size

# A generator on a window: ``(signals, rows, samples)`` to ``(rows, samples)``.
Generate = Callable[[Tensor], Tensor]


class ChunkWindow(NamedTuple):
    """How a generator's input is cut, in samples, all multiples of a hop.

    The generator's answer for ``samples`` is right if it also sees ``before`` and ``after`` on either
    side.
    """

    samples: int
    before: int
    after: int


def window_of(samples: int, history_samples: int, latency_samples: int) -> ChunkWindow:
    """Return how to cut a signal for a generator: at most ``samples`` new ones at a time.

    All three numbers are rounded to hops, on which a generator's frames lie.

    Args:
        samples: the most that are new.
        history_samples: how far back the generator looks.
        latency_samples: how far ahead.
    """
    before, after = (-(-reach // HOP) * HOP for reach in (history_samples, latency_samples))
    return ChunkWindow(max(samples // HOP, 1) * HOP, before, after)


def denoise_blocks(step: ByHop, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield ``(2, rows, samples)``, denoised and as it was, of ``(rows, samples)`` at 48 kHz."""
    runner: HopRunner | None = None
    queue: Tensor | None = None
    for block in blocks:
        runner = runner or HopRunner(step, len(block))
        queue = block if queue is None else torch.cat([queue, block], dim=1)
        ready = runner.push(block)
        if ready.shape[1]:
            yield torch.stack([ready, queue[:, : ready.shape[1]]])
            queue = queue[:, ready.shape[1] :]
    if runner is not None and queue is not None:
        yield torch.stack([runner.flush(), queue])


def denoise_whole(denoiser: Denoiser, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield what :func:`denoise_blocks` does, for a denoiser that needs the whole signal in memory."""
    parts = list(blocks)
    if not parts:
        return
    noisy = torch.cat(parts, dim=1)
    denoised = denoiser.denoise_clips(list(noisy.cpu().numpy()))
    rows = torch.from_numpy(np.stack(denoised)).to(noisy.device)
    yield from torch.split(torch.stack([rows, noisy]), block_size(SAMPLE_RATE), dim=2)


def generate_blocks(
    generate: Generate, blocks: Iterable[Tensor], window: ChunkWindow
) -> Iterator[Tensor]:
    """Yield ``(2, rows, samples)``: the first signal of ``blocks``, and what is generated of all.

    Args:
        generate: returns for a window what it returns for the whole, but for the window's ends.
        blocks: ``(signals, rows, samples)``.
        window: as :func:`window_of` returns it for ``generate``.
    """
    rest: Tensor | None = None
    start = 0  # samples at the front of the rest that are out
    for block in blocks:
        rest = block if rest is None else torch.cat([rest, block], dim=2)
        while rest.shape[2] >= (end := start + window.samples) + window.after:
            ready = generate(rest[:, :, : end + window.after])
            yield torch.stack([rest[0, :, start:end], ready[:, start:end]])
            surplus = max(end - window.before, 0)
            rest, start = rest[:, :, surplus:], end - surplus
    if rest is not None and rest.shape[2] > start:
        yield torch.stack([rest[0, :, start:], generate(rest)[:, start:]])
