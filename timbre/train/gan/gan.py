"""The networks, their optimizers and the step counter: exactly what a checkpoint holds."""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Literal

import torch
from accelerate import Accelerator
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from timbre.config import STRICT, Count, Fraction, Natural, Positive
from timbre.errors import ConfigError
from timbre.models import GeneratorConfig, build_generator
from timbre.models.discriminators import DiscriminatorConfig, build_discriminator
from timbre.train.gan.descent import Descent
from timbre.train.gan.numbers import Numbers
from timbre.train.gan.schedule import cosine_share, warm_restarts_share
from timbre.train.parts import OPTIMIZERS, part

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(config=STRICT)
class OptimizerConfig:
    """AdamW for both networks; the rate rises linearly, then falls along one or more half cosines.

    ``cosine`` falls once, until the last step. ``warm_restarts`` falls in ``restart_steps``, starts
    again at the peak, and falls ``restart_factor`` times as long each time.
    """

    learning_rate: Positive = 5e-4
    discriminator_learning_rate: Positive = 2e-4
    warmup_steps: Natural = 500
    schedule: Literal["cosine", "warm_restarts"] = "cosine"
    restart_steps: Count = 10000
    restart_factor: Count = 2
    # The rate falls to this share of its peak.
    final_share: Fraction = 0.02
    generator_max_grad_norm: Positive = 10.0
    discriminator_max_grad_norm: Positive = 10.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999


class Gan:
    """Generator, its moving average, discriminator, how both descend, and the step.

    All ranks must build it from the same random state, and the same configs.
    """

    def __init__(
        self,
        generator: GeneratorConfig,
        discriminator: DiscriminatorConfig,
        optimizer: OptimizerConfig,
        steps: int,
        precision: Precision,
        accelerator: Accelerator,
    ) -> None:
        self.config, self.steps, self.precision = optimizer, steps, precision
        self.step, self.compiled = 0, False
        device = accelerator.device
        # What changes from step to step, where a captured step reads it.
        self.numbers = Numbers(device)
        plain = build_generator(generator).to(device)
        self.average: nn.Module = copy.deepcopy(plain).requires_grad_(False).eval()
        # Wrapped for several ranks; the optimizers stay plain, because Accelerate's wrapper would
        # update one scaler for both of them.
        self.generator: nn.Module = accelerator.prepare_model(plain)
        self.critic = build_discriminator(discriminator).to(device)
        self.discriminator: nn.Module = accelerator.prepare_model(self.critic)
        scaled = precision == "fp16"
        self.generator_descent = Descent(
            unwrap(self.generator),
            self.numbers.generator_rate,
            optimizer.generator_max_grad_norm,
            scaled,
        )
        self.discriminator_descent = Descent(
            self.critic,
            self.numbers.discriminator_rate,
            optimizer.discriminator_max_grad_norm,
            scaled,
        )

    def compile(self) -> None:
        """Compile both networks in place; names of weights, the average, and checkpoints stay.

        Raises:
            ConfigError: nothing can be compiled here.
        """
        _check_compiler(next(self.average.parameters()).device)
        for network in (self.generator, self.discriminator):
            unwrap(network).compile()
        self.compiled = True

    def eager(self) -> AbstractContextManager[object]:
        """Return a context in which nothing is compiled: each new length of a pair would be."""
        return torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context in which the networks run."""
        dtype = DTYPES.get(self.precision)
        return torch.autocast(device.type, dtype, enabled=dtype is not None)

    def rates(self, adversarial_start: int) -> tuple[float, float]:
        """Return the generator's and the discriminator's learning rate of this step.

        The discriminator goes through a schedule of its own from ``adversarial_start`` on: by the
        generator's it would begin when the rate has nearly run out, and learn nothing.
        """
        c = self.config
        own = max(self.step - adversarial_start, 0)
        share = self._rate_share(self.step, self.steps)
        own_share = self._rate_share(own, self.steps - adversarial_start)
        return c.learning_rate * share, c.discriminator_learning_rate * own_share

    def renewal(self) -> float:
        """Return how much of the average this step replaces; more in a run's first steps."""
        return 1 - min(self.config.ema_decay, (1 + self.step) / (10 + self.step))

    def _rate_share(self, step: int, steps: int) -> float:
        c = self.config
        if c.schedule == "warm_restarts":
            return warm_restarts_share(
                step, c.warmup_steps, c.restart_steps, c.restart_factor, c.final_share
            )
        return cosine_share(step, c.warmup_steps, steps, c.final_share)

    def descend_generator(self, output: Tensor, gradient: Tensor | None = None) -> Tensor:
        """Take one generator step and update the average; return the gradient norm.

        ``output`` and ``gradient`` are those of :meth:`timbre.train.gan.descent.Descent.descend`.
        """
        norm = self.generator_descent.descend(output, gradient)
        with torch.no_grad(), part(OPTIMIZERS):
            averaged: list[Tensor] = [*self.average.parameters()]
            current: list[Tensor] = [*self.generator_descent.parameters]
            change = torch._foreach_sub(current, averaged)
            torch._foreach_mul_(change, self.numbers.renewal)
            torch._foreach_add_(averaged, change)
        return norm

    def abandon_step(self) -> None:
        """Make a new step possible where one was broken off half-way."""
        for descent in (self.generator_descent, self.discriminator_descent):
            descent.abandon()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training goes on from; tensors, numbers and plain containers."""
        return {
            "step": self.step,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, saved at any number of ranks."""
        for name, its in self._parts().items():
            if name in state:  # another precision had no scaler: a fresh one is right
                its.load_state_dict(state[name])
        self.step = state["step"]

    def _parts(self) -> dict[str, Any]:
        parts = {
            "generator": unwrap(self.generator),
            "discriminator": self.critic,
            "average": self.average,
            "generator_optimizer": self.generator_descent,
            "discriminator_optimizer": self.discriminator_descent,
        }
        if self.precision == "fp16":
            parts["generator_scaler"] = self.generator_descent.scaler
            parts["discriminator_scaler"] = self.discriminator_descent.scaler
        return parts


def _check_compiler(device: torch.device) -> None:
    """Raise ConfigError unless the smallest function compiles: no step should find that out."""
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"compile true: torch.compile cannot work on {device.type} here: {reason}; install a C++ "
            "compiler (g++, or set CXX), or set compile: false"
        ) from error


def unwrap(network: nn.Module) -> nn.Module:
    """Return the network inside what wraps it for several ranks."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
