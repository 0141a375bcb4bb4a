"""One step down a gradient, skipped on the device where the gradient is not finite."""

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler


class Descent:
    """A network's optimizer, its own gradient scaler, and the bound of its gradient's norm.

    Two losses overflow at different scales, so each has a scaler. There is one in every precision:
    together with a fused optimizer it leaves weights, moments and their step count as they are when
    a gradient is not finite, without the host asking. Only fp16 needs scales other than 1.

    Args:
        network: on its device, wrapped for several ranks if there are.
        learning_rate: at the start.
        max_grad_norm: longer gradients are shortened to it.
        scaled: whether the scale follows the gradients (fp16), or is 1.
    """

    def __init__(
        self, network: nn.Module, learning_rate: float, max_grad_norm: float, scaled: bool
    ) -> None:
        self.parameters = list(network.parameters())
        self.max_grad_norm, self.scaled = max_grad_norm, scaled
        self.optimizer = torch.optim.AdamW(
            self.parameters, learning_rate, betas=(0.8, 0.99), fused=True
        )
        device = self.parameters[0].device.type
        self.scaler = GradScaler(device) if scaled else GradScaler(device, init_scale=1.0)

    def set_learning_rate(self, rate: float) -> None:
        """Set the rate of the next steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def descend(self, output: Tensor, gradient: Tensor | None = None) -> Tensor:
        """Take one step; return the gradient's norm, not finite if the step was skipped.

        Args:
            output: a loss; or, of any shape, what a loss was computed from.
            gradient: that loss's gradient with respect to ``output``, of its shape.
        """
        gradient = torch.ones_like(output) if gradient is None else gradient
        self.optimizer.zero_grad()
        torch.autograd.backward(output, self.scaler.scale(gradient))
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update(None if self.scaled else 1.0)
        return norm

    def gradients(self, terms: dict[str, Tensor], output: Tensor) -> dict[str, Tensor]:
        """Return each term's gradient with respect to ``output``, of its shape; the graph is kept."""
        scale = self.scaler.scale(torch.ones((), device=output.device))
        return {
            name: torch.autograd.grad(term * scale, output, retain_graph=True)[0] / scale
            for name, term in terms.items()
        }
