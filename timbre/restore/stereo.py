"""Two channels of one recording repaired so that the voice stays in its place.

The networks take each channel alone. They change levels and phases of the two differently, and the
voice moves. So we measure each bin's direction, which is how one source lies in both channels, between
the input and what the networks made of it: the latter has no noise, and noise of the former cancels
out. Both channels then get what one source in that direction gives.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timbre.audio import HOP, SAMPLE_RATE, Wave, side_by_side
from timbre.audio.spectra import sine_window
from timbre.restore.channels import ALIKE, TINY, Likeness
from timbre.restore.hop_runner import HopRunner

# A live signal is judged by about its last 5 s. Alike for 1 s, it goes over within another second.
MEMORY_FRAMES, CHANGE_FRAMES = 500, 100
# What a direction is measured over: about 70 ms, and a bin on each side.
DIRECTION_DECAY = 0.85
# A bin stays as it is where a second source has a third of the first one's level: it would be lost.
SECOND_SOURCE = 3.0
# So many samples are linked at a time.
BLOCK = SAMPLE_RATE

Spectrum = NDArray[np.complex128]
Powers = NDArray[np.float64]


class LinkState(NamedTuple):
    """What linking keeps of the past.

    Attributes:
        hops: the last hop ``(2, 2, 480)`` of the repaired and of the input's channels.
        cross: input times repaired, conjugate: ``(2, 2, 481)``, input's channel first.
        noise: power of what the networks took out, ``(2, 481)``.
        overlap: the second half of the last frame's change ``(2, 480)``.
        share: of the change that is applied, if more than 0; from -1 on, to wait.
        likeness: of the channels so far, where it decides.
    """

    hops: NDArray[np.float64]
    cross: Spectrum
    noise: Powers
    overlap: NDArray[np.float64]
    share: float
    likeness: Likeness | None


class LinkByHop:
    """Two channels, repaired each alone, brought to where the voice lies in the input.

    Where two sources are in a bin at once it stays as the networks left it.

    Args:
        when_alike: only while the channels were alike for the last seconds, from the first hop as they
            are. A state can then be used once.
    """

    latency_samples = HOP

    def __init__(self, when_alike: bool = False) -> None:
        self._when_alike = when_alike
        self._window = sine_window(HOP).numpy()

    def initial_state(self, batch: int = 2) -> LinkState:
        """Return the state before the first hop of two channels.

        Raises:
            ValueError: ``batch`` is another number.
        """
        if batch != 2:
            raise ValueError(f"{batch} channels: expected 2")
        cross, noise = np.zeros((2, 2, HOP + 1), np.complex128), np.zeros((2, HOP + 1))
        share, likeness = 1.0, None
        if self._when_alike:
            share, likeness = -1.0, Likeness(memory_frames=MEMORY_FRAMES)
        return LinkState(np.zeros((2, 2, HOP)), cross, noise, np.zeros((2, HOP)), share, likeness)

    def __call__(self, hops: Tensor, state: LinkState, noisy: Tensor) -> tuple[Tensor, LinkState]:
        """Return the hops linked, a hop late, and the next state.

        Args:
            hops: ``(2, hops * 480)``, repaired.
            state: of the hops before.
            noisy: the same stretch of the input.
        """
        signals = torch.stack([hops, noisy]).numpy()
        linked = np.empty(hops.shape, np.float32)
        for first in range(0, hops.shape[1], HOP):
            hop = slice(first, first + HOP)
            linked[:, hop], state = self._hop(signals[:, :, hop], state)
        return torch.from_numpy(linked), state

    def _hop(self, hops: Wave, state: LinkState) -> tuple[NDArray[np.float64], LinkState]:
        frame = np.concatenate([state.hops, hops], axis=2)
        repaired, noisy = np.fft.rfft(frame * self._window)
        new = noisy[:, None] * repaired[None].conj()
        cross = DIRECTION_DECAY * state.cross + (1 - DIRECTION_DECAY) * new
        removed = np.square(np.abs(noisy - repaired))
        noise = DIRECTION_DECAY * state.noise + (1 - DIRECTION_DECAY) * removed
        share = _next_share(state, hops[1])
        wave = np.zeros((2, 2 * HOP))
        # Equal channels stay equal.
        if share > 0 and (frame[:, 0] != frame[:, 1]).any():
            change = share * _change(repaired, _add_neighbours(cross), _add_neighbours(noise))
            wave = np.fft.irfft(change) * self._window
        result = state.hops[0] + (state.overlap + wave[:, :HOP])
        rest = frame[:, :, HOP:], cross, noise, wave[:, HOP:], share, state.likeness
        return result, LinkState(*rest)


def link_blocks(
    repaired: Iterable[Wave], noisy: Iterable[Wave], pairs: Sequence[int]
) -> Iterator[Wave]:
    """Yield ``(rows, any)`` with pairs of rows linked.

    Args:
        repaired: blocks ``(rows, any)`` at 48 kHz.
        noisy: the input in time with them.
        pairs: the first row of each pair.
    """
    runners = [HopRunner(LinkByHop(), 2) for _ in pairs]
    waiting: list[Wave] = []
    for block, beside in side_by_side(repaired, noisy, BLOCK):
        waiting.append(block)
        ready = [
            runner.push(*(torch.from_numpy(wave[first : first + 2]) for wave in (block, beside)))
            for runner, first in zip(runners, pairs, strict=True)
        ]
        yield from _joined(waiting, ready, pairs)
    yield from _joined(waiting, [runner.flush() for runner in runners], pairs)


def _joined(waiting: list[Wave], ready: list[Tensor], pairs: Sequence[int]) -> Iterator[Wave]:
    """Take as many samples as are ready from the waiting ones, and put linked rows in their place."""
    samples = ready[0].shape[1]
    if samples == 0:
        return
    queue = np.concatenate(waiting, axis=1)
    waiting[:] = [queue[:, samples:]]
    result = queue[:, :samples].copy()
    for first, pair in zip(pairs, ready, strict=True):
        result[first : first + 2] = pair.numpy()
    yield result


def _next_share(state: LinkState, noisy: Wave) -> float:
    if state.likeness is None:
        return state.share
    state.likeness.add(noisy)
    step = 1 / CHANGE_FRAMES if state.likeness.value() >= ALIKE else -1 / CHANGE_FRAMES
    return min(max(state.share + step, -1.0), 1.0)


def _change(repaired: Spectrum, cross: Spectrum, noise: Powers) -> Spectrum:
    """Return what is to be added to both repaired channels ``(2, bins)``.

    A direction is the principal left singular vector of a bin's ``cross`` ``(2, 2, bins)``.
    """
    # The cleaner channel counts more: the direction is measured against it, and the source is its.
    trust = 1 / (noise + 1e-3 * noise.sum(axis=0) + TINY)
    trust /= trust.sum(axis=0)
    (a, b), (c, d) = cross * (trust / (np.abs(cross).sum(axis=(0, 1)) + TINY))
    first = np.square(np.abs(a)) + np.square(np.abs(b))
    second = np.square(np.abs(c)) + np.square(np.abs(d))
    between = a * c.conj() + b * d.conj()
    # The larger eigenvalue of a Hermitian 2 x 2 matrix, and its vector in the form that does not
    # cancel.
    half, mean = (first - second) / 2, (first + second) / 2
    root = np.sqrt(np.square(half) + np.square(np.abs(between)))
    first_is_louder = half >= 0
    direction = np.stack(
        [
            np.where(first_is_louder, half + root, between),
            np.where(first_is_louder, between.conj(), root - half),
        ]
    )
    weights = trust * np.square(np.abs(direction))
    source = (direction.conj() * trust * repaired).sum(axis=0) / (weights.sum(axis=0) + TINY)
    beside = np.sqrt(np.maximum(mean - root, 0) / (mean + root + TINY))
    alone = np.clip(1 - SECOND_SOURCE * beside, 0, 1)
    change: Spectrum = alone * (direction * source - repaired)
    return change


def _add_neighbours(values: NDArray[Any]) -> NDArray[Any]:
    """Return ``(..., bins)``, each with half of the bins beside it."""
    sums = values.copy()
    sums[..., 1:] += values[..., :-1] / 2
    sums[..., :-1] += values[..., 1:] / 2
    return sums
