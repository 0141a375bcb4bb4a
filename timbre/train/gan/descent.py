"""One step down a gradient, skipped on the device where the gradient is not finite."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from timbre.models.stacked_convolutions import StackedConvolutions
from timbre.train.parts import OPTIMIZERS, part


class Descent:
    """A network's optimizer, its own gradient scaler, and the bound of its gradient's norm.

    Two losses overflow at different scales, so each has a scaler. There is one in every precision:
    together with a fused optimizer it leaves weights, moments and their step count as they are when
    a gradient is not finite, without the host asking. Only fp16 needs scales other than 1.

    Args:
        network: on its device, not wrapped for several ranks.
        learning_rate: a scalar on that device, which may change between steps.
        max_grad_norm: longer gradients are shortened to it.
        scaled: whether the scale follows the gradients (fp16), or is 1.
    """

    def __init__(
        self, network: nn.Module, learning_rate: Tensor, max_grad_norm: float, scaled: bool
    ) -> None:
        self.network, self.learning_rate = network, learning_rate
        self.parameters = list(network.parameters())
        self.max_grad_norm, self.scaled = max_grad_norm, scaled
        device = self.parameters[0].device.type
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            0.0,
            betas=(0.8, 0.99),
            fused=True,
            # As a CUDA graph demands; elsewhere there is none.
            capturable=device == "cuda",
        )
        self._follow_rate()
        self.scaler = GradScaler(device) if scaled else GradScaler(device, init_scale=1.0)

    def descend(self, output: Tensor, gradient: Tensor | None = None) -> Tensor:
        """Take one step; return the gradient's norm, not finite if the step was skipped.

        Args:
            output: a loss; or, of any shape, what a loss was computed from.
            gradient: that loss's gradient with respect to ``output``, of its shape.
        """
        gradient = torch.ones_like(output) if gradient is None else gradient
        self.optimizer.zero_grad()
        torch.autograd.backward(output, self.scaler.scale(gradient))
        return self.step()

    def step(self) -> Tensor:
        """Take one step down the scaled gradients that the parameters hold; return their norm."""
        with part(OPTIMIZERS):
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update(None if self.scaled else 1.0)
            return norm

    def abandon(self) -> None:
        """Forget gradients, and that they were unscaled; the scaler has no public way to."""
        self.optimizer.zero_grad()
        self.scaler._per_optimizer_states.clear()

    def gradients(self, terms: dict[str, Tensor], output: Tensor) -> dict[str, Tensor]:
        """Return each term's gradient with respect to ``output``, of its shape; the graph is kept."""
        scale = self.scaler.scale(torch.ones((), device=output.device))
        return {
            name: torch.autograd.grad(term * scale, output, retain_graph=True)[0] / scale
            for name, term in terms.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state, of each tensor that the network's own state dict holds."""
        state = self.optimizer.state_dict()
        moments = {
            name: state["state"][n] for n, name in enumerate(self._names()) if state["state"]
        }
        separate: dict[str, dict[str, Tensor]] = {}
        for kind in ("step", "exp_avg", "exp_avg_sq") if moments else ():
            values = {name: its[kind] for name, its in moments.items()}
            for name, value in self._separate(values, kind).items():
                separate.setdefault(name, {})[kind] = value
        names = [*separate] or [
            *self._separate(dict(zip(self._names(), self.parameters, strict=True)))
        ]
        (group,) = state["param_groups"]
        group |= {"params": [*range(len(names))], "lr": float(group["lr"]), "capturable": False}
        return {"state": dict(enumerate(separate.values())), "param_groups": [group]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state; rates and what depends on the device stay."""
        whole = dict(zip(self._names(), self.parameters, strict=True))
        names = [*self._separate(whole)]
        moments: dict[str, dict[str, Tensor]] = {name: {} for name in whole}
        for kind in ("step", "exp_avg", "exp_avg_sq") if state["state"] else ():
            separate = {name: state["state"][n][kind] for n, name in enumerate(names)}
            for name, value in self._stack(separate, kind).items():
                moments[name][kind] = value
        own = self.optimizer.state_dict()
        by_number = dict(enumerate(moments.values())) if state["state"] else {}
        self.optimizer.load_state_dict({"state": by_number, "param_groups": own["param_groups"]})
        self._follow_rate()

    def _follow_rate(self) -> None:
        # Not at construction or loading, which would look at its value or copy it.
        self.optimizer.param_groups[0]["lr"] = self.learning_rate

    def _names(self) -> list[str]:
        return [name for name, _ in self.network.named_parameters()]

    def _separate(self, values: Mapping[str, Tensor], kind: str = "") -> dict[str, Tensor]:
        if not isinstance(self.network, StackedConvolutions):
            return dict(values)
        if kind == "step":  # one for each stack
            return self.network.separate(values, whole=True)
        return self.network.separate(values)

    def _stack(self, values: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
        if not isinstance(self.network, StackedConvolutions):
            return dict(values)
        return self.network.stack(values, whole=kind == "step")
