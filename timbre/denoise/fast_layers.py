"""Layers on one frame, as single products: weights lie as they are read, patches are copied out.

Maps are (batch, bins, channels) with a silent bin on either side where a convolution follows.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from timbre.denoise.network import CHANNELS, HIDDEN, SqueezedGru
from timbre.row_product import RowProduct


class Product(NamedTuple):
    """A weight (inputs, outputs) and a bias (outputs,) or (1,)."""

    weight: Tensor
    bias: Tensor


class Recurrence:
    """A `SqueezedGru` of one frame; the weights are copied."""

    def __init__(self, squeezed: SqueezedGru) -> None:
        gru = squeezed.gru
        self._before = squeezed.linear_in.weight.detach()
        self._behind = None if squeezed.linear_out is None else squeezed.linear_out.weight.detach()
        self._layers = [
            tuple(
                RowProduct(
                    gru.get_parameter(f"weight_{side}_l{layer}"),
                    gru.get_parameter(f"bias_{side}_l{layer}"),
                )
                for side in ("ih", "hh")
            )
            for layer in range(gru.num_layers)
        ]

    def __call__(self, x: Tensor, before: list[Tensor], after: list[Tensor]) -> Tensor:
        """(batch, outputs) of x (batch, inputs).

        All recurrent layers' states, (batch, 256) each, are in `before`; the next ones of those that
        are through already are in `after`, where these append theirs.
        """
        x = grouped(x, self._before).relu_()
        for of_input, of_state in self._layers:
            state = before[len(after)]
            from_input, from_state = of_input(x), of_state(state)
            both = 2 * HIDDEN
            gates = (from_input[:, :both] + from_state[:, :both]).sigmoid_()
            reset, update = gates[:, :HIDDEN], gates[:, HIDDEN:]
            new = torch.addcmul(from_input[:, both:], reset, from_state[:, both:]).tanh_()
            x = torch.lerp(new, state, update)
            after.append(x)
        return x if self._behind is None else grouped(x, self._behind).relu_()


def grouped(x: Tensor, weight: Tensor) -> Tensor:
    """`GroupedLinear` of x (batch, inputs): (batch, outputs)."""
    groups, inputs, _ = weight.shape
    products = torch.bmm(x.reshape(-1, groups, inputs).transpose(0, 1), weight)
    return products.transpose(0, 1).reshape(len(x), -1)


def convolution_product(layer: nn.Conv2d) -> Product:
    """A convolution over frames and bins as a product of patches (frame, bin, channel)."""
    weight = layer.weight.detach().permute(2, 3, 1, 0)
    assert layer.bias is not None
    return Product(weight.flatten(0, 2).contiguous(), layer.bias.detach())


def doubling_product(layer: nn.ConvTranspose2d) -> Product:
    """A transposed convolution as a product of pairs of neighbouring bins: both bins that come of one."""
    before, own, behind = layer.weight.detach()[:, :, 0].unbind(2)  # (inputs, outputs) each
    even = torch.cat((own, torch.zeros_like(own)))
    odd = torch.cat((behind, before))
    assert layer.bias is not None
    return Product(torch.cat((even, odd), dim=1).contiguous(), layer.bias.detach().repeat(2))


def convolve(padded: Tensor, layer: Product, stride: int = 1) -> Tensor:
    """(batch, bins, outputs) of three neighbouring bins each of padded (batch, bins + 2, channels)."""
    batch, bins, channels = padded.shape
    patches = padded.as_strided(
        (batch, (bins - 2) // stride, 3 * channels), (bins * channels, stride * channels, 1)
    )
    rows = torch.addmm(layer.bias, patches.reshape(-1, 3 * channels), layer.weight)
    return rows.view(batch, -1, layer.weight.shape[1])


def double(padded: Tensor, layer: Product) -> Tensor:
    """(batch, 2 · bins, 64) of padded (batch, bins + 2, 64); the silent bin in front is not used."""
    batch, bins, channels = padded.shape
    pairs = padded[:, 1:].as_strided(
        (batch, bins - 2, 2 * channels), (bins * channels, channels, 1), channels
    )
    rows = torch.addmm(layer.bias, pairs.reshape(-1, 2 * channels), layer.weight)
    return rows.view(batch, -1, CHANNELS)


def padded_relu(maps: Tensor) -> Tensor:
    """(batch, bins + 2, channels): maps (batch, bins, channels) without what is below zero."""
    batch, bins, channels = maps.shape
    padded = maps.new_zeros(batch, bins + 2, channels)
    torch.clamp_min(maps, 0.0, out=padded[:, 1:-1])
    return padded
