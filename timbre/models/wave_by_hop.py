"""The causal wave generator hop by hop: what it needs of the past is carried from call to call."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timbre.audio import HOP
from timbre.models.checks import check_causal
from timbre.models.wave import (
    INPUT_GAIN,
    Convolution,
    DecoderLevel,
    EncoderLevel,
    Residual,
    TransposedConvolution,
    WaveGenerator,
)


class WaveState(NamedTuple):
    """What is carried from hop to hop; row i of each tensor belongs to stream i.

    past: (batch, any) the last inputs of all convolutions and the last outputs of the transposed
        ones, in the order of use.
    seen: (batch,) int64, hops so far; below 0, hops before the signal are still to come.
    """

    past: Tensor
    seen: Tensor


class WaveByHop(nn.Module):
    """Restores a stream, any number of hops a call; shares the weights of a causal generator.

    Raises:
        ValueError: the generator looks ahead.
    """

    latency_samples = 0

    def __init__(self, generator: WaveGenerator) -> None:
        super().__init__()
        check_causal(generator.latency_samples)
        self.generator = generator

    def initial_state(self, batch: int = 1, wait_hops: int = 0) -> WaveState:
        """Return the state before the first hop of ``batch`` streams.

        The first ``wait_hops`` hops, in calls of their own, must be silent and leave no trace.
        """
        size = 0
        for module in self.generator.modules():
            if isinstance(module, Convolution):
                size += module.padding[0] * module.convolution.in_channels
            elif isinstance(module, TransposedConvolution):
                size += spill(module) * module.convolution.out_channels
        past = next(self.generator.parameters()).new_zeros(batch, size)
        return WaveState(past, past.new_full((batch,), -wait_hops, dtype=torch.int64))

    def forward(
        self, hops: Tensor, state: WaveState, noisy: Tensor | None = None
    ) -> tuple[Tensor, WaveState]:
        """Return the restored ``(batch, hops * 480)``, not late, and the next state.

        Args:
            hops: ``(batch, hops * 480)`` of what the denoiser gave.
            state: from the call before.
            noisy: likewise what the denoiser was given, in time with ``hops``; None means silence.
        """
        generator, memory = self.generator, Layers(state.past)
        hidden = memory.convolve(generator.first, hops[:, None] * INPUT_GAIN)
        if generator.first_noisy is not None:
            second = torch.zeros_like(hops) if noisy is None else noisy
            hidden = hidden + memory.convolve(generator.first_noisy, second[:, None] * INPUT_GAIN)
        skips: list[Tensor] = []
        for level in generator.encoder:
            skips.append(hidden)
            hidden = memory.encode(level, hidden)  # type: ignore[arg-type]
        for block in generator.middle:
            hidden = memory.add(block, hidden)  # type: ignore[arg-type]
        for level, skip in zip(reversed(generator.decoder), reversed(skips), strict=True):
            hidden = memory.decode(level, hidden, skip)  # type: ignore[arg-type]
        change = memory.convolve(generator.last, hidden)[:, 0]
        seen = state.seen + hops.shape[1] // HOP
        past = memory.next_past() * (seen > 0)[:, None]
        return hops + change / INPUT_GAIN, WaveState(past, seen)


class Memory:
    """Hands out the parts of a state in the order of use, and collects those of the next one."""

    def __init__(self, past: Tensor) -> None:
        self._past, self._position = past, 0
        self._parts: list[Tensor] = []

    def take(self, rows: int, columns: int) -> Tensor:
        """Return the next part, ``(batch, rows, columns)``."""
        first = self._position
        self._position += rows * columns
        return self._past[:, first : self._position].reshape(-1, rows, columns)

    def keep(self, part: Tensor) -> None:
        """Give a part to the next call."""
        self._parts.append(part.flatten(1))

    def next_past(self) -> Tensor:
        """Return the parts for the next call, ``(batch, any)``."""
        return torch.cat(self._parts, dim=1)


class Layers(Memory):
    """What each kind of layer gives with that memory in place of its padding."""

    def convolve(self, layer: Convolution, hidden: Tensor) -> Tensor:
        """Return what ``layer`` gives, with the past in place of its padding."""
        length = layer.padding[0]
        inputs = torch.cat((self.take(hidden.shape[1], length), hidden), dim=2)
        self.keep(inputs[..., inputs.shape[2] - length :])
        output: Tensor = layer.convolution(inputs)
        return output

    def transpose(self, layer: TransposedConvolution, hidden: Tensor) -> Tensor:
        """Return what ``layer`` gives, the past's outputs added where they reach into this call."""
        convolution: nn.ConvTranspose1d = layer.convolution
        length = spill(layer)
        full: Tensor = F.conv_transpose1d(hidden, convolution.weight, stride=layer.stride)
        past = self.take(full.shape[1], length)
        full = full + F.pad(past, (0, full.shape[2] - length))
        self.keep(full[..., full.shape[2] - length :])
        assert convolution.bias is not None
        ready: Tensor = full[..., : full.shape[2] - length] + convolution.bias[:, None]
        return ready

    def add(self, block: Residual, hidden: Tensor) -> Tensor:
        """Return what a residual block gives."""
        first, dilated, second, narrow = block.layers
        change: Tensor = narrow(second(self.convolve(dilated, first(hidden))))  # type: ignore[arg-type]
        return hidden + change

    def encode(self, level: EncoderLevel, hidden: Tensor) -> Tensor:
        """Return what a level of the encoder gives."""
        *residuals, activation, down = level.layers
        for block in residuals:
            hidden = self.add(block, hidden)  # type: ignore[arg-type]
        return self.convolve(down, activation(hidden))  # type: ignore[arg-type]

    def decode(self, level: DecoderLevel, hidden: Tensor, skip: Tensor) -> Tensor:
        """Return what a level of the decoder gives."""
        activation, up = level.up
        hidden = self.transpose(up, activation(hidden)) + skip  # type: ignore[arg-type]
        for block in level.residuals:
            hidden = self.add(block, hidden)  # type: ignore[arg-type]
        return hidden


def spill(layer: TransposedConvolution) -> int:
    """Return how many outputs of a transposed convolution reach past its last input's stride."""
    kernel: int = layer.convolution.weight.shape[2]
    return kernel - layer.stride
