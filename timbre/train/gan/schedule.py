"""Learning rate and adversarial weight as pure functions of the optimizer step."""

import math
from typing import Literal

from pydantic.dataclasses import dataclass

from timbre.config import STRICT, Natural
from timbre.errors import ConfigError

RECONSTRUCTION_EPOCHS = 5


@dataclass(config=STRICT)
class AdversarialConfig:
    """When the discriminator comes in, in optimizer steps.

    Up to ``start_step`` the generator only reconstructs; for ``discriminator_steps`` the
    discriminator learns alone; then its weight in the generator's loss rises over ``ramp_steps``.
    ``start_step`` None is five epochs, the least that is allowed.

    ``order`` says by which activations the generator learns. ``joint``: by those that teach the
    discriminator in the same step, so that it judges once. ``alternating``: it judges again after its
    own step, which costs a pass more.
    """

    start_step: Natural | None = None
    discriminator_steps: Natural = 1000
    ramp_steps: Natural = 2000
    order: Literal["joint", "alternating"] = "joint"


def resolve_start(config: AdversarialConfig, steps_per_epoch: int, taught: bool = False) -> int:
    """Return the step at which the discriminator starts to learn.

    Where the run goes on with one that is ``taught`` already, the five epochs are behind it.

    Raises:
        ConfigError: it would start before five epochs of reconstruction.
    """
    earliest = 0 if taught else RECONSTRUCTION_EPOCHS * steps_per_epoch
    if config.start_step is not None and config.start_step < earliest:
        raise ConfigError(
            f"adversarial.start_step {config.start_step}: expected at least {earliest}, "
            f"{RECONSTRUCTION_EPOCHS} epochs of {steps_per_epoch} steps"
        )
    return earliest if config.start_step is None else config.start_step


def adversarial_share(step: int, start: int, config: AdversarialConfig) -> float:
    """Return the share, 0 to 1, of the adversarial weights at optimizer step ``step`` (from 0)."""
    into = step - start - config.discriminator_steps
    if into < 0:
        return 0.0
    return min((into + 1) / max(config.ramp_steps, 1), 1.0)


def cosine_share(step: int, warmup_steps: int, steps: int, final_share: float) -> float:
    """Return the share of the peak rate that optimizer step ``step`` (from 0) is taken with.

    A linear rise, then half a cosine down to ``final_share``. There is no state that several ranks
    could step twice or a checkpoint lose.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / max(steps - warmup_steps, 1), 1.0)
    return _half_cosine(progress, final_share)


def warm_restarts_share(
    step: int, warmup_steps: int, restart_steps: int, restart_factor: int, final_share: float
) -> float:
    """Return that share under warm restarts (SGDR, Loshchilov & Hutter 2017), as stateless.

    A linear rise, then half cosines from 1 towards ``final_share``: the first takes
    ``restart_steps``, each later one ``restart_factor`` times the one before.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    into, length = step - warmup_steps, restart_steps
    if restart_factor == 1:
        into %= length
    while into >= length:
        into -= length
        length *= restart_factor
    return _half_cosine(into / length, final_share)


def _half_cosine(progress: float, final_share: float) -> float:
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * progress))
