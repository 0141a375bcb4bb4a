"""The causal wave generator on a CPU, a hop or a few at a time: convolutions as products of patches.

Signals are (batch, time, channels) here, so that a patch lies in memory as its product needs it.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timbre.audio import HOP
from timbre.models.wave import (
    INPUT_GAIN,
    Convolution,
    DecoderLevel,
    EncoderLevel,
    Residual,
    TransposedConvolution,
)
from timbre.models.wave_by_hop import Memory, WaveByHop, WaveState, spill
from timbre.restore.live.products import RowProduct


class LiveWave:
    """``WaveByHop`` computed another way; the order within its states is another, too.

    Takes the weights as they are now, weight norms folded, and copies them.
    """

    def __init__(self, step: WaveByHop) -> None:
        self.step, self.latency_samples = step, step.latency_samples
        generator = step.generator
        self._first = Patches.of(generator.first)
        noisy = generator.first_noisy
        self._first_noisy = None if noisy is None else Patches.of(noisy)
        self._encoder = [LiveEncoderLevel(level) for level in generator.encoder]  # type: ignore[arg-type]
        self._middle = [LiveResidual(block) for block in generator.middle]  # type: ignore[arg-type]
        self._decoder = [LiveDecoderLevel(level) for level in reversed(generator.decoder)]  # type: ignore[arg-type]
        self._last = Patches.of(generator.last)

    def initial_state(self, batch: int) -> WaveState:
        """Return the state before the first hop of ``batch`` streams."""
        return self.step.initial_state(batch)

    def __call__(
        self, hops: Tensor, state: WaveState, noisy: Tensor | None = None
    ) -> tuple[Tensor, WaveState]:
        """Return what :meth:`WaveByHop.forward` does, to rounding."""
        memory = Memory(state.past)
        hidden = self._first(hops[..., None] * INPUT_GAIN, memory)
        if self._first_noisy is not None:
            second = torch.zeros_like(hops) if noisy is None else noisy
            hidden = hidden.add_(self._first_noisy(second[..., None] * INPUT_GAIN, memory))
        skips: list[Tensor] = []
        for down in self._encoder:
            skips.append(hidden)
            hidden = down(hidden, memory)
        for block in self._middle:
            hidden = block(hidden, memory)
        for up, skip in zip(self._decoder, reversed(skips), strict=True):
            hidden = up(hidden, skip, memory)
        change = self._last(hidden, memory)[..., 0]
        hop_count = state.seen + hops.shape[1] // HOP
        return torch.add(hops, change, alpha=1 / INPUT_GAIN), WaveState(
            memory.next_past(), hop_count
        )


class Patches(NamedTuple):
    """A convolution as a product of patches (tap, channel), each of some past and the present."""

    product: RowProduct
    channels: int
    taps: int
    stride: int
    dilation: int

    @classmethod
    def of(cls, layer: Convolution) -> "Patches":
        """Return the same layer."""
        convolution = layer.convolution
        weight = convolution.weight.transpose(1, 2).flatten(1)
        return cls(
            RowProduct(weight, convolution.bias),
            convolution.in_channels,
            convolution.kernel_size[0],
            convolution.stride[0],
            convolution.dilation[0],
        )

    def __call__(self, hidden: Tensor, memory: Memory) -> Tensor:
        """Return ``(batch, time / stride, outputs)`` of ``(batch, time, channels)``."""
        batch, time, channels = hidden.shape
        length = (self.taps - 1) * self.dilation - (self.stride - 1)
        inputs = torch.cat((memory.take(length, channels), hidden), dim=1)
        memory.keep(inputs[:, time:])
        patches = inputs.as_strided(
            (batch, time // self.stride, self.taps, channels),
            (inputs.stride(0), self.stride * channels, self.dilation * channels, 1),
        )
        rows = self.product(patches.reshape(-1, self.taps * channels))
        return rows.view(batch, time // self.stride, -1)


class LiveResidual:
    """``Residual``."""

    def __init__(self, block: Residual) -> None:
        first, dilated, second, narrow = block.layers
        self._slopes = [_slopes(first), _slopes(second)]
        self._dilated = Patches.of(dilated)  # type: ignore[arg-type]
        self._narrow = RowProduct(narrow.weight[..., 0], narrow.bias)  # type: ignore[arg-type, index]

    def __call__(self, hidden: Tensor, memory: Memory) -> Tensor:
        """Return ``(batch, time, channels)`` of the same."""
        change = self._dilated(_bent(hidden, self._slopes[0]), memory)
        change = self._narrow(_bent(change, self._slopes[1]).flatten(0, 1))
        return hidden + change.view_as(hidden)


class LiveEncoderLevel:
    """``EncoderLevel``."""

    def __init__(self, level: EncoderLevel) -> None:
        *residuals, activation, down = level.layers
        self._residuals = [LiveResidual(block) for block in residuals]  # type: ignore[arg-type]
        self._slopes, self._down = _slopes(activation), Patches.of(down)  # type: ignore[arg-type]

    def __call__(self, hidden: Tensor, memory: Memory) -> Tensor:
        """Return ``(batch, time / stride, outputs)`` of ``(batch, time, channels)``."""
        for block in self._residuals:
            hidden = block(hidden, memory)
        return self._down(_bent(hidden, self._slopes), memory)


class LiveDecoderLevel:
    """``DecoderLevel``."""

    def __init__(self, level: DecoderLevel) -> None:
        activation, up = level.up
        assert isinstance(up, TransposedConvolution)
        self._slopes, self._stride = _slopes(activation), up.stride
        assert spill(up) == up.stride  # the kernel is two strides long
        weight = up.convolution.weight  # (inputs, outputs, 2 · stride)
        assert up.convolution.bias is not None
        self._channels = weight.shape[1]
        bias = torch.cat(
            (up.convolution.bias.repeat(up.stride), weight.new_zeros(up.stride * self._channels))
        )
        self._product = RowProduct(weight.permute(2, 1, 0).flatten(0, 1), bias)
        self._residuals = [LiveResidual(block) for block in level.residuals]  # type: ignore[arg-type]

    def __call__(self, hidden: Tensor, skip: Tensor, memory: Memory) -> Tensor:
        """Return ``(batch, time * stride, outputs)``, the shape of ``skip``."""
        batch, time, _ = hidden.shape
        size = self._stride * self._channels
        both = self._product(_bent(hidden, self._slopes).flatten(0, 1)).view(batch, time, 2, size)
        late = torch.cat((memory.take(1, size), both[:, :, 1]), dim=1)
        memory.keep(late[:, time:])
        hidden = (both[:, :, 0] + late[:, :time]).view_as(skip) + skip
        for block in self._residuals:
            hidden = block(hidden, memory)
        return hidden


def _slopes(activation: nn.Module) -> Tensor:
    assert isinstance(activation, nn.PReLU)
    return activation.weight.detach()


def _bent(hidden: Tensor, slopes: Tensor) -> Tensor:
    """Return what a PReLU gives of ``(batch, time, channels)``."""
    return F.prelu(hidden.flatten(0, 1), slopes).view_as(hidden)
