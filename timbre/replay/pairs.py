"""What each pair of a step weighs: its loss, and its share in the generator's gradient."""

from typing import NamedTuple

import torch
from torch import Tensor

from timbre.stream import PairBatch
from timbre.stream.augment import Sides, augment
from timbre.train.gan import balance
from timbre.train.losses.adversarial import generator_losses
from timbre.train.losses.reconstruction import view_of
from timbre.train.run import Run
from timbre.train.step import RAMPED, Metrics, Phase, StepParts


class PairWeight(NamedTuple):
    """A pair of a step.

    Attributes:
        loss: of this pair alone, its terms times the weights of the step.
        terms: the terms of it, unweighted.
        share: in the step's gradient g, of which this pair adds p: p·g / g·g. The shares of a step add
            up to 1; below 0 a pair pulls against the others.
        grad_norm: of p, before clipping.
    """

    loss: float
    terms: dict[str, float]
    share: float
    grad_norm: float


def weigh_pairs(run: Run, batch: PairBatch) -> list[PairWeight]:
    """Return what each pair of the run's next step weighs; nothing of the run changes.

    Discriminators are those before the step. The gradient is with respect to the generator's weights.

    Args:
        run: at the step before.
        batch: of the next step, whole.
    """
    parts, config = run.step_parts(), run.config
    sides, phase = augment(batch, config.augment, config.seed), parts.phase()
    with parts.gan.autocast(sides.clean.device):
        restored = parts.gan.generator(sides.degraded, sides.noisy).float()
    gradient = _output_gradient(parts, restored, _terms(parts, restored, sides, phase))
    parameters = [p for p in parts.gan.generator.parameters() if p.requires_grad]

    def flat_gradient(of_restored: Tensor) -> Tensor:
        gradients = torch.autograd.grad(
            restored, parameters, of_restored, retain_graph=True, materialize_grads=True
        )
        return torch.cat([g.flatten() for g in gradients])

    total = flat_gradient(gradient)
    square = float(total.dot(total))
    weights = parts.weights()
    rows = []
    for row in range(len(gradient)):
        own = torch.zeros_like(gradient)
        own[row] = gradient[row]
        mine = flat_gradient(own)
        with torch.no_grad():
            alone = _terms(parts, restored[row : row + 1], _one(sides, row), phase)
        terms = {name: float(value) for name, value in alone.items()}
        loss = sum(weights[name] * value for name, value in terms.items())
        share = float(mine.dot(total)) / square if square > 0 else 0.0
        rows.append(PairWeight(loss, terms, share, float(mine.norm())))
    return rows


def _terms(parts: StepParts, restored: Tensor, sides: Sides, phase: Phase) -> Metrics:
    """Return the terms of the generator's loss on ``restored`` ``(batch, 1, samples)``."""
    target, bandwidth_hz = parts.reconstruction.target(
        sides.clean, sides.degraded, sides.bandwidth_hz
    )
    view = view_of(target, bandwidth_hz)
    clean, restored_view = view(target), view(restored)
    terms: Metrics = parts.reconstruction.terms(restored_view, clean, bandwidth_hz)
    if phase.adversarial:
        critic = parts.gan.critic
        planes = critic.planes(torch.cat([clean, restored_view]))
        with torch.no_grad(), parts.gan.autocast(restored.device):
            judgements = critic([plane.detach() for plane in planes])
        pulls = generator_losses(critic, judgements, planes)
        terms |= dict(zip(RAMPED, pulls, strict=True))
    return terms


def _output_gradient(parts: StepParts, restored: Tensor, terms: Metrics) -> Tensor:
    """Return the step's gradient with respect to the restored batch, balanced if the run's is."""
    gradients = {
        name: torch.autograd.grad(term, restored, retain_graph=True)[0]
        for name, term in terms.items()
    }
    factors: dict[str, Tensor] | dict[str, float] = parts.weights()
    if parts.balancer is not None:
        averages = parts.balancer.state_dict()
        factors = parts.balancer.factors(balance.item_norms(gradients), parts.weights())
        parts.balancer.load_state_dict(averages)
    return torch.stack([factors[name] * g for name, g in gradients.items()]).sum(0)


def _one(sides: Sides, row: int) -> Sides:
    one = slice(row, row + 1)
    noisy = None if sides.noisy is None else sides.noisy[one]
    return Sides(sides.degraded[one], sides.clean[one], noisy, sides.bandwidth_hz[one])
