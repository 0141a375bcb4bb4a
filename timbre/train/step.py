"""One step of training: the discriminator learns to judge, the generator to restore."""

from typing import NamedTuple

import torch
from torch import Tensor

from timbre.stream.augment import Sides
from timbre.train.gan import balance
from timbre.train.gan.balance import Balancer
from timbre.train.gan.gan import Gan, frozen
from timbre.train.gan.schedule import AdversarialConfig, adversarial_share
from timbre.train.losses import adversarial
from timbre.train.losses.adversarial import discriminator_accuracy, halves
from timbre.train.losses.reconstruction import LossConfig, ReconstructionLoss, view, weighted_sum

Metrics = dict[str, Tensor]
# The terms whose weights the schedule ramps.
ADVERSARIAL = ("adversarial", "feature_matching")


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


class Comparison(NamedTuple):
    """Both sides as losses and discriminators see them, and as they are; ``(batch, 1, samples)``.

    ``clean`` is the target at unit level and without what lies above ``bandwidth_hz`` ``(batch,)``.
    ``target`` and ``restored`` are not changed so.
    """

    clean: Tensor
    target: Tensor
    restored: Tensor
    bandwidth_hz: Tensor

    def restored_view(self) -> Tensor:
        """Return the restored side at the target's gain and within its bandwidth."""
        return view(self.restored, self.target, self.bandwidth_hz)


def descend(parts: StepParts, sides: Sides) -> Metrics:
    """Take one step of each network whose turn it is; return the scalars to be logged.

    Args:
        parts: what it works with.
        sides: a batch, augmented.
    """
    gan = parts.gan
    gan.set_learning_rates(parts.adversarial_start)
    target, bandwidth_hz = parts.reconstruction.target(
        sides.clean, sides.degraded, sides.bandwidth_hz
    )
    with gan.autocast(target.device):
        restored = gan.generator(sides.degraded, sides.noisy).float()
    compared = Comparison(view(target, target, bandwidth_hz), target, restored, bandwidth_hz)
    metrics: Metrics = {}
    if gan.step >= parts.adversarial_start:
        metrics |= discriminator_step(parts, compared)
    metrics |= generator_step(parts, compared)
    gan.step += 1
    return metrics


def discriminator_step(parts: StepParts, compared: Comparison) -> Metrics:
    """Teach the discriminator to tell clean from restored."""
    views = compared.clean, compared._replace(restored=compared.restored.detach()).restored_view()
    with parts.gan.autocast(compared.clean.device):
        # One pass over both: DDP allows one forward a step, and it is half the kernels.
        judgements = parts.gan.discriminator(torch.cat(views))
    real, fake = halves(judgements)
    loss = adversarial.discriminator_loss(real, fake)
    return {
        "d/loss": loss,
        "d/accuracy": discriminator_accuracy(real, fake),
        "d/grad_norm": parts.gan.descend_discriminator(loss),
    }


def generator_step(parts: StepParts, compared: Comparison) -> Metrics:
    """Bring restored nearer to clean and, once it is time, past the discriminator."""
    terms = parts.reconstruction.terms(
        compared.restored_view(), compared.clean, compared.bandwidth_hz
    )
    share = adversarial_share(parts.gan.step, parts.adversarial_start, parts.adversarial)
    if share > 0:
        fake_view = compared.restored_view()
        with frozen(parts.gan.discriminator) as critic, parts.gan.autocast(compared.clean.device):
            with torch.no_grad():
                real = critic(compared.clean)
            fake = critic(fake_view)
        terms["adversarial"] = adversarial.adversarial_loss(fake)
        terms["feature_matching"] = adversarial.feature_matching_loss(real, fake)
    weights = {
        name: getattr(parts.loss, name) * (share if name in ADVERSARIAL else 1.0) for name in terms
    }
    return descend_generator(parts, compared.restored, terms, weights)


def descend_generator(
    parts: StepParts, restored: Tensor, terms: Metrics, weights: dict[str, float]
) -> Metrics:
    """Take the generator's step down the weighted, or balanced, terms; return their shares in it."""
    loss, scalars = weighted_sum(terms, weights)
    metrics = {f"g/{name}": value for name, value in scalars.items()} | {"g/loss": loss}
    looking = parts.gan.step % parts.log_gradients_every == 0
    if looking or parts.balancer is not None:
        gradients = parts.gan.generator_descent.gradients(terms, restored)
        norms = balance.item_norms(gradients)
        factors: dict[str, Tensor | float] = {**weights}
        if parts.balancer is not None:
            factors |= parts.balancer.factors(norms, weights)
        if looking:
            shares = balance.shares(norms, factors)
            metrics |= {f"g/gradient_share/{name}": part for name, part in shares.items()}
    if parts.balancer is None:
        metrics["g/grad_norm"] = parts.gan.descend_generator(loss)
    else:
        balanced = torch.stack([factors[name] * g for name, g in gradients.items()]).sum(0)
        metrics["g/grad_norm"] = parts.gan.descend_generator(restored, balanced)
    return metrics
