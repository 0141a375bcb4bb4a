"""How steps are taken: operator by operator, or in memory that stays, which a CUDA graph needs.

In fixed memory a step reads its batch, what augmentation draws, rates and weights always from the same
place. On a GPU the whole step, both optimizers in it, is then captured once and launched as one. On
other devices it is run operator by operator through the same memory, so that all but the capture can be
tested anywhere.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from timbre.errors import ConfigError
from timbre.stream import PairBatch
from timbre.stream.augment import AugmentConfig, Draw, Sides, apply, augment, draw, sides_of
from timbre.train.parts import AUGMENTATION, part
from timbre.train.step import Metrics, Phase, StepParts, descend, take_step

StepMode = Literal["auto", "eager", "graph"]
# Steps of a phase before it is captured: they make moments, plans and workspaces.
WARM_UP = 3


class Choice(NamedTuple):
    """How steps are taken, and why."""

    fixed: bool
    reason: str


class Steps:
    """Takes steps of training operator by operator.

    Args:
        parts: gives what the next step works with.
        augment: what is drawn for each pair.
        seed: what it is drawn from.
    """

    def __init__(self, parts: Callable[[], StepParts], augment: AugmentConfig, seed: int) -> None:
        self.parts, self.augment, self.seed = parts, augment, seed

    def take(self, batch: PairBatch) -> Metrics:
        """Take one step of each network whose turn it is; return the scalars to be logged."""
        with part(AUGMENTATION):
            sides = augment(batch, self.augment, self.seed)
        return descend(self.parts(), sides)

    def renew(self) -> None:
        """Forget what was captured."""


class FixedSteps(Steps):
    """Takes steps in fixed memory, on a GPU by a graph for each phase.

    Steps that measure shares in the gradient are taken operator by operator. What a step returns is
    valid until the next one.

    Args:
        parts, augment, seed: those of :class:`Steps`.
        say: takes a line for the user.
    """

    def __init__(
        self,
        parts: Callable[[], StepParts],
        augment: AugmentConfig,
        seed: int,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(parts, augment, seed)
        self.say, self.capturing = say, True
        self._memory: _Memory | None = None
        self._captured: _Captured | None = None
        self._phase: Phase | None = None
        self._warm = 0

    def take(self, batch: PairBatch) -> Metrics:
        """Take one step of each network whose turn it is; return the scalars to be logged."""
        parts = self.parts()
        phase = parts.phase()
        if phase.measuring:
            return super().take(batch)
        parameters = draw(self.augment, self.seed, batch.epoch, batch.positions)
        if self._memory is None or not self._memory.suits(batch):
            self._memory = _Memory(batch, parameters)
            self.renew()
        self._memory.fill(batch, parameters)
        parts.settle()
        metrics = self._take(parts, phase, self._memory)
        parts.gan.step += 1
        return metrics

    def renew(self) -> None:
        """Forget what was captured: the next steps warm up and capture again."""
        self._captured, self._phase, self._warm = None, None, 0

    def _take(self, parts: StepParts, phase: Phase, memory: "_Memory") -> Metrics:
        def body() -> Metrics:
            with part(AUGMENTATION):
                sides = memory.sides()
            return take_step(parts, sides, phase)

        if memory.device.type != "cuda" or not self.capturing:
            return body()
        if phase != self._phase:
            self.renew()
            self._phase = phase
        if self._captured is None and self._warm < WARM_UP:
            self._warm += 1
            return _aside(body)
        if self._captured is None:
            try:
                self._captured = _Captured(body)
            except RuntimeError as error:
                self.capturing = False
                parts.gan.abandon_step()
                reason = str(error).partition("\n")[0]
                self.say(f"steps: one could not be captured: {reason}; operator by operator now")
                return body()
        return self._captured.replay()


class _Memory:
    """A batch and what is drawn for it, at places that stay."""

    def __init__(self, batch: PairBatch, parameters: Draw) -> None:
        self.device = batch.degraded.device
        self._batch = batch.change(torch.empty_like)
        self._parameters = Draw(
            *(torch.empty_like(value, device=self.device) for value in parameters)
        )

    def suits(self, batch: PairBatch) -> bool:
        """Return whether a batch fits in."""
        return batch.degraded.shape == self._batch.degraded.shape

    def fill(self, batch: PairBatch, parameters: Draw) -> None:
        """Copy a batch in, without waiting for the device."""
        there = [*_tensors(self._batch), *self._parameters]
        here = [*_tensors(batch), *parameters.to(self.device)]
        for place, value in zip(there, here, strict=True):
            place.copy_(value)

    def sides(self) -> Sides:
        """Return the batch, augmented."""
        return apply(self._parameters, sides_of(self._batch))


class _Captured:
    """A step as a CUDA graph, and where it leaves its scalars."""

    def __init__(self, body: Callable[[], Metrics]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Other threads read and pin batches meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._metrics = {name: value.detach() for name, value in body().items()}

    def replay(self) -> Metrics:
        """Launch the step."""
        self._graph.replay()
        return self._metrics


def choose(mode: StepMode, accelerator: Accelerator, balanced: bool, compiled: bool) -> Choice:
    """Return how steps are taken.

    Raises:
        ConfigError: ``graph`` is asked for where a step cannot be captured.
    """
    if mode == "eager":
        return Choice(False, "step is eager")
    obstacles = {
        "balancer.enabled true: the balancer makes its averages anew in each step": balanced,
        "compile true: what is compiled is launched by graphs of its own": compiled,
        "several ranks: the exchange of their gradients is not captured": accelerator.num_processes
        > 1,
    }
    reasons = [reason for reason, there in obstacles.items() if there]
    if mode == "graph":
        if reasons:
            raise ConfigError(f"step graph with {reasons[0]}; expected step: auto or eager")
        return Choice(True, "step is graph")
    if accelerator.device.type != "cuda":
        return Choice(False, f"step is auto, and {accelerator.device.type} has no graphs")
    if reasons:
        return Choice(False, f"step is auto, with {reasons[0]}")
    return Choice(True, "step is auto, on a GPU")


def describe(choice: Choice, accelerator: Accelerator) -> str:
    """Return the line that says how steps are taken."""
    how = "operator by operator"
    if choice.fixed:
        on_gpu = accelerator.device.type == "cuda"
        graph = "as a CUDA graph, captured in each phase and after validation"
        how = graph if on_gpu else "in fixed memory, operator by operator"
    return f"steps: {how} ({choice.reason})"


def _tensors(batch: PairBatch) -> list[Tensor]:
    sides = (batch.degraded, batch.clean, batch.noisy, batch.bandwidth_hz)
    return [tensor for tensor in sides if tensor is not None]


def _aside(body: Callable[[], Metrics]) -> Metrics:
    """Run on a stream of its own, as what will be captured must have been."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        metrics = body()
    torch.cuda.current_stream().wait_stream(aside)
    return metrics
