"""One step of training: the discriminator learns to judge, the generator to restore."""

from typing import NamedTuple

import torch
from torch import Tensor

from timbre.models.discriminators import Judgement
from timbre.stream.augment import Sides
from timbre.train.gan import balance
from timbre.train.gan.balance import Balancer
from timbre.train.gan.gan import Gan
from timbre.train.gan.schedule import AdversarialConfig, adversarial_share
from timbre.train.losses.adversarial import discriminator_loss, generator_losses
from timbre.train.losses.reconstruction import LossConfig, ReconstructionLoss, view_of
from timbre.train.parts import ADVERSARIAL, DISCRIMINATOR, GENERATOR, RECONSTRUCTION, part

Metrics = dict[str, Tensor]
# The terms whose weights the schedule ramps.
RAMPED = ("adversarial", "feature_matching")


class Phase(NamedTuple):
    """What a step does: steps of one phase launch the very same work."""

    teaching: bool  # the discriminator learns
    adversarial: bool  # it weighs in the generator's loss
    measuring: bool  # each term's share in the gradient is measured


class StepParts(NamedTuple):
    """What a step works with, beside its batch.

    ``adversarial_start`` is the step from which on the discriminator learns.
    """

    gan: Gan
    reconstruction: ReconstructionLoss
    balancer: Balancer | None
    loss: LossConfig
    adversarial: AdversarialConfig
    adversarial_start: int
    log_gradients_every: int

    def phase(self) -> Phase:
        """Return the phase of the next step."""
        step = self.gan.step
        return Phase(
            teaching=step >= self.adversarial_start,
            adversarial=self._share() > 0,
            measuring=step % self.log_gradients_every == 0,
        )

    def weights(self) -> dict[str, float]:
        """Return the factor of each term in the next step, ramps included."""
        share = self._share()
        names = self.reconstruction.names + (RAMPED if share > 0 else ())
        return {
            name: getattr(self.loss, name) * (share if name in RAMPED else 1.0) for name in names
        }

    def settle(self) -> None:
        """Bring the next step's rates and weights to where :func:`take_step` reads them."""
        gan = self.gan
        gan.numbers.settle(
            gan.rates(self.adversarial_start), gan.renewal(), [*self.weights().values()]
        )

    def _share(self) -> float:
        return adversarial_share(self.gan.step, self.adversarial_start, self.adversarial)


class Critique(NamedTuple):
    """The discriminator's view of a joint batch, clean before restored, and what it says of it."""

    planes: list[Tensor]
    judgements: list[Judgement]


def descend(parts: StepParts, sides: Sides) -> Metrics:
    """Take one step of each network whose turn it is; return the scalars to be logged.

    Args:
        parts: what it works with.
        sides: a batch, augmented.
    """
    parts.settle()
    metrics = take_step(parts, sides, parts.phase())
    parts.gan.step += 1
    return metrics


def take_step(parts: StepParts, sides: Sides, phase: Phase) -> Metrics:
    """Do the work of a step, with all that changes from step to step read on the device."""
    gan, device = parts.gan, sides.clean.device
    with part(GENERATOR), gan.autocast(device):
        restored = gan.generator(sides.degraded, sides.noisy).float()
    with part(RECONSTRUCTION):
        target, bandwidth_hz = parts.reconstruction.target(
            sides.clean, sides.degraded, sides.bandwidth_hz
        )
        view = view_of(target, bandwidth_hz)
        clean, restored_view = view(target), view(restored)
        terms = parts.reconstruction.terms(restored_view, clean, bandwidth_hz)
    metrics: Metrics = {}
    if phase.teaching:
        with part(DISCRIMINATOR):
            critique, taught = teach(parts, torch.cat([clean, restored_view]), phase)
        metrics |= taught
        if phase.adversarial:
            with part(ADVERSARIAL):
                terms |= adversarial_terms(parts, critique)
    return metrics | descend_generator(parts, restored, terms, phase)


def teach(parts: StepParts, both: Tensor, phase: Phase) -> tuple[Critique, Metrics]:
    """Teach the discriminator to tell clean from restored.

    Args:
        parts: what the step works with.
        both: clean and restored ``(2 * batch, 1, samples)``, as they are seen.
        phase: whether the planes need a graph.
    """
    gan = parts.gan
    with torch.set_grad_enabled(phase.adversarial):
        planes = gan.critic.planes(both)
    with gan.autocast(both.device):
        # One pass over both: DDP allows one forward a step, and it is half the kernels.
        judgements = gan.discriminator([plane.detach() for plane in planes])
    loss, accuracy = discriminator_loss(judgements)
    metrics = {
        "d/loss": loss,
        "d/accuracy": accuracy,
        "d/grad_norm": gan.discriminator_descent.descend(loss),
    }
    return Critique(planes, judgements), metrics


def adversarial_terms(parts: StepParts, critique: Critique) -> Metrics:
    """Return the discriminator's terms of the generator's loss.

    By the activations that have taught it, or, in the order ``alternating``, by those after its step.
    """
    planes, judgements = critique
    critic = parts.gan.critic
    if parts.adversarial.order == "alternating":
        with torch.no_grad(), parts.gan.autocast(planes[0].device):
            judgements = critic([plane.detach() for plane in planes])
    adversarial, matching = generator_losses(critic, judgements, planes)
    return dict(zip(RAMPED, (adversarial, matching), strict=True))


def descend_generator(parts: StepParts, restored: Tensor, terms: Metrics, phase: Phase) -> Metrics:
    """Take the generator's step down the weighted, or balanced, terms; return their shares in it."""
    gan = parts.gan
    weights = gan.numbers.weights(len(terms)).clone()  # the next step's come to the same place
    loss = torch.stack([*terms.values()]).dot(weights)
    by_name = dict(zip(terms, weights.unbind(), strict=True))
    metrics = {f"g/{name}": value for name, value in terms.items()} | {"g/loss": loss}
    metrics |= {f"g/{name}_weight": weight for name, weight in by_name.items()}
    gradient = None
    if phase.measuring or parts.balancer is not None:
        gradients = gan.generator_descent.gradients(terms, restored)
        norms = balance.item_norms(gradients)
        factors = by_name
        if parts.balancer is not None:
            factors = parts.balancer.factors(norms, parts.weights())
            gradient = torch.stack([factors[name] * g for name, g in gradients.items()]).sum(0)
        if phase.measuring:
            shares = balance.shares(norms, factors)
            metrics |= {f"g/gradient_share/{name}": part for name, part in shares.items()}
    with part(GENERATOR):
        output = loss if gradient is None else restored
        metrics["g/grad_norm"] = gan.descend_generator(output, gradient)
    return metrics
