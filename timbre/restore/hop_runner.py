"""A signal in pieces of any size through a network that takes whole hops."""

from contextlib import nullcontext
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from timbre.audio import HOP
from timbre.precision import exact_float32


class Step(Protocol):
    """A network that carries what it needs of the past in a state, a named tuple of tensors.

    What it gives is late by ``latency_samples``, a multiple of the hop. A state with a ``length``
    is told there, at the end, how many samples the signal had.
    """

    latency_samples: int

    def initial_state(self, batch: int) -> Any:
        """Return the state before the first hop of ``batch`` streams."""

    def __call__(self, *given: Any, **named: Any) -> tuple[Tensor, Any]:
        """Return what it makes of hops ``(batch, hops * HOP)``, of that shape, and the next state.

        Args:
            given: the hops, the state, and for some steps a second signal of the same shape.
            named: none; that says no more than that these differ from step to step.
        """


class HopStream:
    """Runs a step over pieces of any size; what comes out lines up with what went in.

    The pieces that come out, one behind the other, are as long as those that went in, and equal
    what the whole signal gives at once, to rounding.

    Args:
        step: on the device where the pieces are; it is not changed, and may serve many streams.
        batch: how many signals of one length run side by side.
    """

    def __init__(self, step: Step, batch: int = 1) -> None:
        self._step, self._batch = step, batch
        self._state = step.initial_state(batch)
        self._rest: list[Tensor] = []
        self._samples = 0
        self._to_drop = step.latency_samples

    @torch.inference_mode()
    def push(self, *pieces: Tensor) -> Tensor:
        """Return what has become ready, ``(batch, any)``.

        Args:
            pieces: the next ``(batch, any)`` float32 of each signal that the step takes.
        """
        self._samples += pieces[0].shape[1]
        if self._rest and self._rest[0].shape[1]:
            pieces = tuple(torch.cat(pair, dim=1) for pair in zip(self._rest, pieces, strict=True))
        whole = pieces[0].shape[1] // HOP * HOP
        self._rest = [piece[:, whole:] for piece in pieces]
        return self._run([piece[:, :whole] for piece in pieces])

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Return the rest, ``(batch, any)``; the stream is over."""
        if self._samples == 0:
            return torch.zeros(self._batch, 0)
        missing = -self._samples % HOP
        last = self._run([F.pad(rest, (0, missing)) for rest in self._rest])
        if "length" in self._state._fields:
            length = torch.full_like(self._state.length, self._samples)
            self._state = self._state._replace(length=length)
        silence = last.new_zeros(len(last), self._step.latency_samples)
        tail = self._run([silence for _ in self._rest])
        whole = torch.cat((last, tail), dim=1)
        return whole[:, : whole.shape[1] - missing]

    def _run(self, signals: list[Tensor]) -> Tensor:
        hops, *beside = signals
        if hops.shape[1] == 0:
            return hops
        # Settings of the process cost some time to change, and a CPU keeps to float32 without.
        with exact_float32() if hops.is_cuda else nullcontext():
            ready, self._state = self._step(hops, self._state, *beside)
        dropped = min(self._to_drop, ready.shape[1])
        self._to_drop -= dropped
        return ready[:, dropped:]
