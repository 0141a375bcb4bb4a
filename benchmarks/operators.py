"""How many operators a step calls, part by part: exact, and what a GPU's host has to launch.

Kernels do work; views only look at a tensor in another way, but cost the host a call as well. Parts are
the ranges that the step names for the profiler, and what is outside of any.
"""

from collections import Counter
from typing import Any, NamedTuple

from torch.utils._python_dispatch import TorchDispatchMode

from timbre.stream import PairBatch
from timbre.train.loop import train_step
from timbre.train.parts import PARTS, PREFIX
from timbre.train.run import Run

REST = "rest"


class Operators(NamedTuple):
    """What one part calls."""

    kernels: int
    views: int

    @property
    def all(self) -> int:
        """Both."""
        return self.kernels + self.views


class OperatorCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators that are called under it, by the innermost range around them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[tuple[str, str, bool]] = Counter()
        self._ranges: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, positional: Any = (), keywords: Any = None
    ) -> Any:
        if function.namespace == "profiler":
            if "enter" in str(function):
                own = positional[0].removeprefix(PREFIX)
                self._ranges.append(own if own in PARTS else self._inner())
            else:
                self._ranges.pop()
        else:
            self.calls[self._inner(), str(function), function.is_view] += 1
        return function(*positional, **(keywords or {}))

    def _inner(self) -> str:
        return self._ranges[-1] if self._ranges else REST

    def parts(self) -> dict[str, Operators]:
        """Return what each part has called, in the order in which the parts first came."""
        operators: dict[str, Operators] = {}
        for (part, _, view), count in self.calls.items():
            before = operators.get(part, Operators(0, 0))
            operators[part] = Operators(
                before.kernels + count * (not view), before.views + count * view
            )
        return operators


def count_step(run: Run, batch: PairBatch) -> OperatorCount:
    """Return what a step on the batch calls, augmentation and the watching of its scalars included."""
    count = OperatorCount()
    with count:
        run.watch(train_step(run, batch))
    return count
