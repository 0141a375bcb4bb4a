"""A signal in pieces of any size through a network that takes whole hops."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from timbre.audio import HOP
from timbre.denoise import ByHop
from timbre.torch_settings import exact_float32


class HopRunner:
    """Runs a network by hop over pieces of any size; its output lines up with its input.

    The pieces of the output, one behind the other, are as long as those of the input. They equal the
    network's output for the whole signal, to rounding.

    Args:
        network: on the device of the pieces; it is not changed, and may serve many runners.
        batch: how many signals of one length run side by side.
    """

    def __init__(self, network: ByHop, batch: int = 1) -> None:
        self._network, self._batch = network, batch
        self._state = network.initial_state(batch)
        self._rest: list[Tensor] = []
        self._samples = 0
        self._to_drop = network.latency_samples

    @torch.inference_mode()
    def push(self, *pieces: Tensor) -> Tensor:
        """Return the samples that are ready, ``(batch, any)``.

        Args:
            pieces: the next ``(batch, any)`` float32 of each signal that the network takes.
        """
        self._samples += pieces[0].shape[1]
        if self._rest and self._rest[0].shape[1]:
            pieces = tuple(torch.cat(pair, dim=1) for pair in zip(self._rest, pieces, strict=True))
        whole = pieces[0].shape[1] // HOP * HOP
        self._rest = [piece[:, whole:] for piece in pieces]
        return self._run([piece[:, :whole] for piece in pieces])

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """Return the rest, ``(batch, any)``; the signal is over."""
        if self._samples == 0:
            return torch.zeros(self._batch, 0)
        shortfall = -self._samples % HOP
        last = self._run([F.pad(rest, (0, shortfall)) for rest in self._rest])
        if "length" in self._state._fields:
            length = torch.full_like(self._state.length, self._samples)
            self._state = self._state._replace(length=length)
        silence = last.new_zeros(len(last), self._network.latency_samples)
        tail = self._run([silence for _ in self._rest])
        whole = torch.cat((last, tail), dim=1)
        return whole[:, : whole.shape[1] - shortfall]

    def _run(self, signals: list[Tensor]) -> Tensor:
        hops, *beside = signals
        if hops.shape[1] == 0:
            return hops
        # Settings of the process cost some time to change, and a CPU keeps to float32 without.
        with exact_float32() if hops.is_cuda else nullcontext():
            ready, self._state = self._network(hops, self._state, *beside)
        surplus = min(self._to_drop, ready.shape[1])
        self._to_drop -= surplus
        return ready[:, surplus:]
