"""DeepFilterNet3's layers for one frame, in fixed places of memory.

Maps are ``(bins, channels)`` with a silent bin on either side, which a convolution needs.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from timbre.denoise.network import CHANNELS, HIDDEN, ChannelAffine, SqueezedGru
from timbre.restore.live.products import (
    Array,
    Bound,
    GroupProduct,
    PatchProduct,
    RowProduct,
    multiply,
    sigmoid,
    tanh,
    windows,
)


class Recurrence:
    """The weights of a ``SqueezedGru``."""

    def __init__(self, squeezed: SqueezedGru) -> None:
        gru = squeezed.gru
        self.before = GroupProduct(squeezed.linear_in.weight)
        behind = squeezed.linear_out
        self.behind = None if behind is None else GroupProduct(behind.weight)
        self.layers = [
            [
                RowProduct(
                    gru.get_parameter(f"weight_{side}_l{layer}"),
                    gru.get_parameter(f"bias_{side}_l{layer}"),
                )
                for side in ("ih", "hh")
            ]
            for layer in range(gru.num_layers)
        ]


class BoundRecurrence:
    """A ``SqueezedGru`` of one stream: its states are in here."""

    def __init__(self, weights: Recurrence) -> None:
        self._before = weights.before.bind()
        self._behind = None if weights.behind is None else weights.behind.bind()
        self._layers = [[product.bind() for product in pair] for pair in weights.layers]

    def __call__(self, x: Array) -> Array:
        """Return ``(outputs,)`` of ``(inputs,)``; valid until the next call."""
        hidden = multiply(self._before, x)
        np.maximum(hidden, 0, out=hidden)
        for of_input, of_state in self._layers:
            hidden = _advance(of_input, of_state, hidden)
        if self._behind is None:
            return hidden
        outputs = multiply(self._behind, hidden)
        return np.maximum(outputs, 0, out=outputs)


class PatchConvolution:
    """A convolution over three neighbouring bins as a product of patches, to be bound."""

    def __init__(self, layer: nn.Conv2d, stride: int = 1) -> None:
        assert layer.bias is not None
        weight = layer.weight.permute(2, 3, 1, 0)  # (frames, bins, channels, outputs)
        self.product, self.stride = PatchProduct(weight.flatten(0, 2), layer.bias), stride


class Doubling:
    """A transposed convolution that doubles the bins, as a product of neighbouring pairs, to be bound."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        before, own, behind = layer.weight[:, :, 0].unbind(2)  # (inputs, outputs) each
        even, odd = torch.cat((own, torch.zeros_like(own))), torch.cat((behind, before))
        assert layer.bias is not None
        self.product = PatchProduct(torch.cat((even, odd), dim=1), layer.bias.repeat(2))


class BoundPatches(NamedTuple):
    """A bound product and the view of its input from which patches are copied."""

    product: Bound
    patches: Array

    def __call__(self) -> Array:
        """Return the outputs; valid until the next call."""
        np.copyto(self.product.inputs.reshape(self.patches.shape), self.patches)
        self.product.run()
        return self.product.outputs


def bind_convolution(layer: PatchConvolution, padded: Array) -> BoundPatches:
    """Return the layer bound to padded maps ``(bins + 2, channels)``."""
    patches = windows(padded, 3, layer.stride)
    return BoundPatches(layer.product.bind(len(patches)), patches)


def bind_doubling(layer: Doubling, padded: Array) -> BoundPatches:
    """Return the layer bound to padded maps; its outputs are two bins side by side."""
    patches = windows(padded[1:], 2)
    return BoundPatches(layer.product.bind(len(patches)), patches)


class Affine(NamedTuple):
    """``ChannelAffine``'s scale and offset, ``(64,)`` each."""

    scale: Array
    offset: Array

    @classmethod
    def of(cls, layer: ChannelAffine) -> "Affine":
        """Return the same layer."""
        return cls(layer.weight.detach().flatten().numpy(), layer.bias.detach().flatten().numpy())

    def join(self, maps: Array, up: Array, out: Array) -> None:
        """Put the rectified affine of maps (bins, 64), plus ``up``, into the inside of padded ``out``."""
        inside = out[1:-1]
        np.multiply(maps[1:-1], self.scale, out=inside)
        np.add(inside, self.offset, out=inside)
        np.maximum(inside, 0, out=inside)
        np.add(inside, up, out=inside)


def padded_maps(bins: int) -> Array:
    """Return maps ``(bins + 2, 64)``, silent."""
    return np.zeros((bins + 2, CHANNELS), np.float32)


def rectify_into(padded: Array, maps: Array) -> None:
    """Put maps ``(bins, channels)``, without what is below zero, into the inside of padded ones."""
    np.maximum(maps, 0, out=padded[1:-1])


def _advance(of_input: Bound, of_state: Bound, x: Array) -> Array:
    """Return a GRU layer's next state; the state is kept as the input of the second product."""
    both, state = 2 * HIDDEN, of_state.inputs
    from_input = multiply(of_input, x)
    of_state.run()
    gates, new = from_input[:both], from_input[both:]
    np.add(gates, of_state.outputs[:both], out=gates)
    sigmoid(gates)
    reset, update = gates[:HIDDEN], gates[HIDDEN:]
    np.multiply(reset, of_state.outputs[both:], out=reset)
    np.add(new, reset, out=new)
    tanh(new)
    # new + update · (state - new)
    np.subtract(state, new, out=state)
    np.multiply(state, update, out=state)
    np.add(state, new, out=state)
    return state
