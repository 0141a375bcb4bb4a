"""How much memory a rank's step takes, found without taking it.

The very step that training takes is gone through with tensors that have shapes and no content
(PyTorch's fake tensors), and what lives at once is added up, backward pass and all.
"""

import copy
import weakref
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from timbre.audio import SAMPLE_RATE
from timbre.models.discriminators import Discriminators
from timbre.stream.augment import Sides
from timbre.train.gan.descent import Descent
from timbre.train.gan.gan import unwrap
from timbre.train.gan.numbers import Numbers
from timbre.train.losses.reconstruction import ReconstructionLoss
from timbre.train.run import Run
from timbre.train.step import StepParts, descend


class StepMemory(NamedTuple):
    """Bytes of one rank's device; ``state`` stays from step to step.

    ``activations`` is the most that lives beside the state at any moment of a step: what the backward
    passes need, and what is on the way. ``buckets`` are where several ranks exchange gradients.
    """

    parameters: int
    average: int
    gradients: int
    moments: int
    buckets: int
    activations: int

    @property
    def state(self) -> int:
        """All but the activations."""
        return sum(self) - self.activations


def step_memory(run: Run, batch: int, ranks: int) -> StepMemory:
    """Return what a step on ``batch`` pairs takes, in the adversarial phase, where it takes most.

    It is one in which each term's gradient is measured too (``log_gradients_every``). The run stays as
    it is.
    """
    parameters = sum(map(parameter_bytes, (run.gan.generator, run.gan.discriminator)))
    trainable_bytes = sum(map(parameter_bytes, trained_networks(run)))
    # AdamW has two moments. All of it is float32, whatever the precision.
    return StepMemory(
        parameters=parameters,
        average=parameter_bytes(run.gan.average),
        gradients=trainable_bytes,
        moments=2 * trainable_bytes,
        buckets=parameters if ranks > 1 else 0,
        activations=_activations(run, batch),
    )


def trained_networks(run: Run) -> list[nn.Module]:
    """Return those that get gradients before the run ends."""
    never = run.adversarial_start >= run.config.steps
    return [run.gan.generator] if never else [run.gan.generator, run.gan.discriminator]


def parameter_bytes(network: nn.Module) -> int:
    """Return the bytes of a network's parameters."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


def _activations(run: Run, batch: int) -> int:
    config, former = run.config, run.gan
    # Not the accelerator's, which may be cpu:0 where theirs is cpu.
    device = next(former.average.parameters()).device
    with (
        former.eager(),
        FakeTensorMode(allow_non_fake_inputs=True) as fake,
        StorageMeter() as living,
    ):
        parts = _fake(run.step_parts(), fake)
        waves = [
            torch.zeros(batch, 1, round(config.segment_seconds * SAMPLE_RATE), device=device)
            for _ in range(3 if config.generator.noisy_input else 2)
        ]
        bandwidth_hz = torch.full((batch,), SAMPLE_RATE / 2, device=device)
        sides = Sides(waves[0], waves[1], waves[2] if waves[2:] else None, bandwidth_hz)
        heaviest = heaviest_step(run)
        parts.gan.step = heaviest + 1
        descend(parts, sides)  # makes gradients and moments
        constant_bytes = living.most = living.now
        parts.gan.step = heaviest
        descend(parts, sides)
    return int(living.most - constant_bytes)


def heaviest_step(run: Run) -> int:
    """Return a step at which everything is done that is ever done in one."""
    config = run.config
    if run.adversarial_start >= config.steps:
        return 0
    late = run.adversarial_start + config.adversarial.discriminator_steps
    late += config.adversarial.ramp_steps
    return late + -late % config.log_gradients_every


def _fake(parts: StepParts, mode: FakeTensorMode) -> StepParts:
    """Return the parts with networks that have no content, and descents of their own."""
    gan = copy.copy(parts.gan)
    networks = [unwrap(gan.generator), gan.average, gan.critic, parts.reconstruction]
    tensors = [t for n in networks for t in (*n.parameters(), *n.buffers())]
    memo: dict[int, Any] = {id(tensor): mode.from_tensor(tensor) for tensor in tensors}
    generator, average, critic, reconstruction = (copy.deepcopy(n, memo) for n in networks)
    gan.generator, gan.average, gan.discriminator = generator, average, critic
    gan.critic = cast(Discriminators, critic)
    gan.numbers = Numbers(next(average.parameters()).device)
    gan.generator_descent = _descent(generator, gan.numbers.generator_rate, gan.generator_descent)
    gan.discriminator_descent = _descent(
        critic, gan.numbers.discriminator_rate, gan.discriminator_descent
    )
    return parts._replace(
        gan=gan, reconstruction=cast(ReconstructionLoss, reconstruction), balancer=None
    )


def _descent(network: nn.Module, rate: Tensor, like: Descent) -> Descent:
    return Descent(network, rate, like.max_grad_norm, like.scaled)


class StorageMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that were made under it and are still there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.most = 0, 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._sizes:
            return
        self._sizes[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, number: int) -> None:
        self.now -= self._sizes.pop(number)
