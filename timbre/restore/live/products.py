"""Matrix products with a row or a few, as fast as their weights come from memory.

Bound ones lie in fixed places of memory, for networks that take one frame at a time.

At one frame an operation of torch costs more than its arithmetic, one of NumPy a half to a fifth of that.
So products are torch's, between arrays that stay where they are, and all else is left to NumPy.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]

# Of (256, 768) and (768, 256) with a single row, on an EPYC: 16 columns at a time read their weights
# at 22 GB/s, 64 columns at 12, the whole matrix at 12 and 8, `F.linear` at 8; plain reading is 23.
COLUMNS = 16
# From here on the rows share what is read, and the usual product is faster.
MANY_ROWS = 8


class Bound(NamedTuple):
    """A product with its inputs and outputs; ``run()`` makes these of those."""

    inputs: Array
    outputs: Array
    run: Callable[[], object]


class RowProduct:
    """``F.linear`` with a fixed weight, fast for a row or a few; the weight is copied.

    Args:
        weight: ``(outputs, inputs)``.
        bias: ``(outputs,)``; None for zeros.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._outputs = len(weight)
        self._plain = weight.detach(), None if bias is None else bias.detach()
        spare = -self._outputs % COLUMNS
        rows = F.pad(weight.detach(), (0, 0, 0, spare)).reshape(-1, COLUMNS, weight.shape[1])
        self._weight = rows.transpose(1, 2).contiguous()  # (blocks, inputs, columns)
        biases = weight.new_zeros(self._outputs) if bias is None else bias.detach()
        self._bias = F.pad(biases, (0, spare)).view(-1, 1, COLUMNS)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return ``(rows, outputs)`` of ``(rows, inputs)``."""
        if len(rows) >= MANY_ROWS:
            return F.linear(rows, *self._plain)
        products = torch.baddbmm(self._bias, rows.expand(len(self._weight), -1, -1), self._weight)
        return products.transpose(0, 1).reshape(len(rows), -1)[:, : self._outputs]

    def bind(self) -> Bound:
        """Return it for a single row, with inputs ``(inputs,)`` and outputs ``(outputs,)``."""
        blocks, inputs, _ = self._weight.shape
        source, target = torch.zeros(inputs), torch.zeros(blocks, 1, COLUMNS)
        rows = source.expand(blocks, 1, inputs)
        run = partial(torch.baddbmm, self._bias, rows, self._weight, out=target)
        return Bound(source.numpy(), target.numpy().reshape(-1)[: self._outputs], run)


class PatchProduct:
    """A convolution as a product of patches.

    Args:
        weight: ``(inputs of a patch, outputs)``.
        bias: ``(outputs,)``.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self._weight, self._bias = weight.detach().contiguous(), bias.detach()

    def bind(self, patches: int) -> Bound:
        """Return it with inputs ``(patches, inputs)`` and outputs ``(patches, outputs)``."""
        inputs, outputs = self._weight.shape
        source, target = torch.zeros(patches, inputs), torch.zeros(patches, outputs)
        run = partial(torch.addmm, self._bias, source, self._weight, out=target)
        return Bound(source.numpy(), target.numpy(), run)


class GroupProduct:
    """A linear layer without bias of a single row, block-diagonal; ``weight`` (groups, inputs, outputs)."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach()

    def bind(self) -> Bound:
        """Return it with inputs and outputs ``(groups * each,)``."""
        groups, inputs, outputs = self._weight.shape
        source, target = torch.zeros(groups, 1, inputs), torch.zeros(groups, 1, outputs)
        run = partial(torch.bmm, source, self._weight, out=target)
        return Bound(source.numpy().reshape(-1), target.numpy().reshape(-1), run)


def sigmoid(x: Array) -> None:
    """Replace by the logistic function, which NumPy lacks."""
    tensor = torch.from_numpy(x)
    torch.sigmoid(tensor, out=tensor)


def tanh(x: Array) -> None:
    """Replace by the hyperbolic tangent; NumPy's may be four roundings off, torch's is one."""
    tensor = torch.from_numpy(x)
    torch.tanh(tensor, out=tensor)


def multiply(product: Bound, x: Array) -> Array:
    """Return the outputs for inputs from elsewhere; they stand until the next call."""
    np.copyto(product.inputs, x)
    product.run()
    return product.outputs


def windows(padded: Array, taps: int, stride: int = 1) -> Array:
    """Return a view ``(places, taps, channels)`` of ``(bins, channels)``: neighbouring bins."""
    view = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=0)[::stride]
    patches: Array = view.transpose(0, 2, 1)
    return patches
