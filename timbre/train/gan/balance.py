"""How much each term of the generator's loss pulls, and a balancer that keeps it as configured.

The balancer is EnCodec's (Défossez et al. 2022): gradients with respect to the network's output are
divided by moving averages of their norms, so that weights are shares of the gradient, whatever the
terms' scales.
"""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from pydantic.dataclasses import dataclass
from torch import Tensor

from timbre.config import STRICT, Fraction

# Keeps a term without a gradient from being divided by zero.
EPSILON = 1e-12


@dataclass(config=STRICT)
class BalancerConfig:
    """Whether loss weights are shares of the gradient; ``ema_decay`` is of its norms' average."""

    enabled: bool = False
    ema_decay: Fraction = 0.999


class Balancer:
    """Turns weights into the factors that give each term its share of the gradient.

    Its state is one average a term: a total and the weight that it has gathered, which undoes the
    start from zero.
    """

    def __init__(self, ema_decay: float, accelerator: Accelerator) -> None:
        self.ema_decay, self.accelerator = ema_decay, accelerator
        self.averages: dict[str, Tensor] = {}

    def factors(
        self, norms: Mapping[str, Tensor], weights: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """Return what each term's gradient is to be multiplied with, the same on all ranks.

        The gradient of every item of the batch is then about 1 long in all, of which each term has
        its weight's share. Norms that are not finite (their step is skipped) or zero (a term that
        rarely pulls would be blown up when it does) are left out of the average.

        Args:
            norms: of this rank's :func:`item_norms`.
            weights: of the same terms.
        """
        mine = torch.stack([norms[name] for name in norms])
        # The other ranks' items count as much as one's own.
        means = self.accelerator.reduce(mine, "mean")
        total = sum(weights[name] for name in norms) or 1.0
        factors = {}
        for name, norm in zip(norms, means, strict=True):
            former = self.averages.get(name, torch.zeros(2, device=norm.device))
            update = former * self.ema_decay + torch.stack([norm, torch.ones_like(norm)])
            average = torch.where(norm.isfinite() & (norm > 0), update, former)
            self.averages[name] = average
            factors[name] = (
                weights[name] / total / (average[0] / average[1].clamp(min=EPSILON) + EPSILON)
            )
        return factors

    def state_dict(self) -> dict[str, Any]:
        """Return the averages."""
        return dict(self.averages)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        device = self.accelerator.device
        self.averages = {name: average.to(device) for name, average in state.items()}


def item_norms(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean over the batch of each item's gradient norm.

    Args:
        gradients: of terms that are means over the batch, each ``(batch, 1, samples)``.
    """
    # Times the batch, which the mean divided by: the same for any number of ranks.
    return {name: g.flatten(1).norm(dim=1).mean() * len(g) for name, g in gradients.items()}


def shares(norms: Mapping[str, Tensor], factors: Mapping[str, Tensor | float]) -> dict[str, Tensor]:
    """Return the share that each term, multiplied with its factor, has in the sum of the norms."""
    pulls = {name: norm * factors[name] for name, norm in norms.items()}
    total = torch.stack(list(pulls.values())).sum() + EPSILON
    return {name: pull / total for name, pull in pulls.items()}
