"""A signal in pieces of any size through a network that takes whole hops."""

from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from timbre.audio import SAMPLE_RATE
from timbre.denoise.precision import exact_float32

HOP = SAMPLE_RATE // 100


class Step(Protocol):
    """A network that carries what it needs of the past in a state, a tuple of tensors.

    What it gives is late by ``latency_samples``, a multiple of the hop.
    """

    latency_samples: int

    def initial_state(self, batch: int) -> Any:
        """Return the state before the first hop of ``batch`` streams."""

    def ended(self, state: Any, samples: int) -> Any:
        """Return the state of streams that are over after so many samples in all."""

    def __call__(self, hops: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return ``(batch, hops * HOP)`` of the same shape, and the next state."""


class HopStream:
    """Runs a step over pieces of any size; what comes out lines up with what went in.

    The pieces that come out, one behind the other, are as long as those that went in, and equal
    what the whole signal gives at once, to rounding.

    Args:
        step: on the device where the pieces are; it is not changed, and may serve many streams.
        batch: how many signals of one length run side by side.
    """

    def __init__(self, step: Step, batch: int = 1) -> None:
        self._step = step
        self._state = step.initial_state(batch)
        self._rest: Tensor | None = None
        self._samples = 0
        self._to_drop = step.latency_samples

    @torch.inference_mode()
    def push(self, piece: Tensor) -> Tensor:
        """Return what has become ready, ``(batch, any)``, of a next ``(batch, any)`` float32."""
        self._samples += piece.shape[1]
        waiting = piece if self._rest is None else torch.cat((self._rest, piece), dim=1)
        whole = waiting.shape[1] // HOP * HOP
        self._rest = waiting[:, whole:]
        return self._run(waiting[:, :whole])

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Return the rest, ``(batch, any)``; the stream is over."""
        rest = torch.zeros(0, 0) if self._rest is None else self._rest
        if self._samples == 0:
            return rest
        last = self._run(torch.nn.functional.pad(rest, (0, -rest.shape[1] % HOP)))
        self._state = self._step.ended(self._state, self._samples)
        tail = self._run(last.new_zeros(len(last), self._step.latency_samples))
        padding = -self._samples % HOP
        whole = torch.cat((last, tail), dim=1)
        return whole[:, : whole.shape[1] - padding]

    def _run(self, hops: Tensor) -> Tensor:
        if hops.shape[1] == 0:
            return hops
        # Settings of the process cost some time to change, and a CPU keeps to float32 without.
        with exact_float32() if hops.is_cuda else nullcontext():
            ready, self._state = self._step(hops, self._state)
        dropped = min(self._to_drop, ready.shape[1])
        self._to_drop -= dropped
        return ready[:, dropped:]
