"""What changes from step to step beside the batch, in one place on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor

# More terms than a loss has.
MOST_WEIGHTS = 16


class Numbers:
    """Learning rates, the average's renewal and the loss weights of a step, as scalars on the device.

    They stay at their place in memory, so that a captured step reads those of its own turn.
    """

    def __init__(self, device: torch.device) -> None:
        self._values = torch.zeros(3 + MOST_WEIGHTS, device=device)
        self.generator_rate, self.discriminator_rate, self.renewal, *_ = self._values.unbind()

    def settle(self, rates: tuple[float, float], renewal: float, weights: Sequence[float]) -> None:
        """Set what the next step reads, without waiting for the device."""
        on_gpu = self._values.device.type == "cuda"
        row = torch.tensor([*rates, renewal, *weights], pin_memory=on_gpu)
        self._values[: len(row)].copy_(row, non_blocking=True)

    def weights(self, count: int) -> Tensor:
        """Return the first weights, ``(count,)``."""
        return self._values[3 : 3 + count]
