"""A linear layer of one row or a few: as fast as its weight comes from memory."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Of (256, 768) and (768, 256) with a single row, on an EPYC: 16 columns at a time read their weights
# at 22 GB/s, 64 columns at 12, the whole matrix at 12 and 8, `F.linear` at 8; plain reading is 23.
COLUMNS = 16
# From here on the rows share what is read, and the usual product is faster.
MANY_ROWS = 8


class RowProduct:
    """``F.linear`` with a fixed weight, fast for inputs of few rows; the weight is copied.

    Args:
        weight: ``(outputs, inputs)``.
        bias: ``(outputs,)``; None for zeros.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.outputs = len(weight)
        self._plain = weight.detach(), None if bias is None else bias.detach()
        spare = -self.outputs % COLUMNS
        rows = F.pad(weight.detach(), (0, 0, 0, spare)).reshape(-1, COLUMNS, weight.shape[1])
        self._weight = rows.transpose(1, 2).contiguous()  # (blocks, inputs, columns)
        biases = weight.new_zeros(self.outputs) if bias is None else bias.detach()
        self._bias = F.pad(biases, (0, spare)).view(-1, 1, COLUMNS)

    def __call__(self, rows: Tensor) -> Tensor:
        """Return ``(rows, outputs)`` of ``(rows, inputs)``."""
        if len(rows) >= MANY_ROWS:
            return F.linear(rows, *self._plain)
        blocks = len(self._weight)
        products = torch.baddbmm(self._bias, rows.expand(blocks, -1, -1), self._weight)
        return products.transpose(0, 1).reshape(len(rows), -1)[:, : self.outputs]
