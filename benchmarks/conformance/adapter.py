"""What an adapter of a loader is: a module with these names. Nothing but the standard library.

``PACKAGE``: the distribution whose version is shown; None for ours.
``LACKS``: features (of :mod:`benchmarks.conformance.scenarios`) that its documentation does not
promise, each with the reason; scenarios that need one are told as unsupported and not run.
``write(folder, keys)``: store one corpus of ``keys``, a list a shard, as the loader wants it.
``open_loader(setup)``: return a :class:`Loader`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol


class Setup(NamedTuple):
    """What one rank is to be served; ``batch`` is of all ranks, ``state`` None begins anew."""

    folders: list[str]
    weights: list[float]
    rank: int
    world: int
    workers: int
    batch: int
    seed: int
    state: Any = None

    @property
    def own_batch(self) -> int:
        """How many items of a global batch are this rank's."""
        return self.batch // self.world


class Loader(Protocol):
    """An open loader of one rank."""

    def __iter__(self) -> Iterator[list[str]]:
        """Yield the keys of each batch, epoch after epoch."""

    def state(self) -> Any:
        """Return where it is, behind the last batch that was yielded."""
