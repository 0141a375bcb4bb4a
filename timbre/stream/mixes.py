"""The sample order of a run whose mix of corpora changes at stated steps.

Each mix begins an epoch of its own, and a corpus that was in the mix before goes on where it was. So
the order is still a pure function of the mixes, the seed and the step.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic.dataclasses import dataclass

from timbre.config import STRICT, Count
from timbre.errors import ConfigError
from timbre.shards import Corpus, DataSource, open_corpus
from timbre.stream.order import Beginning, Order, SampleOrder


@dataclass(config=STRICT)
class DataChange:
    """What is trained on from a step on, in place of what was before."""

    from_step: Count
    data: tuple[DataSource, ...]


class DataMix(NamedTuple):
    """Corpora with their weights, and the step from which on they are served."""

    from_step: int
    corpora: tuple[Corpus, ...]


def open_mixes(
    data: Sequence[DataSource], changes: Sequence[DataChange], split: str
) -> tuple[DataMix, ...]:
    """Return the corpora that are served first, and from which steps on others are.

    Raises:
        FileNotFoundError, ShardError: as :func:`timbre.shards.open_corpus`.
    """
    phases = [(0, data), *((change.from_step, change.data) for change in changes)]
    corpora = {source: open_corpus(source, split) for _, sources in phases for source in sources}
    return tuple(
        DataMix(step, tuple(corpora[source] for source in sources)) for step, sources in phases
    )


class MixPhase(NamedTuple):
    """The part of a run that has one mix; it ends where the next one begins."""

    first_step: int
    first_epoch: int
    order: SampleOrder
    steps: int

    def step(self, epoch: int, done: int = 0) -> int:
        """Return the run's step after ``done`` steps of an epoch."""
        return self.first_step + (epoch - self.first_epoch) * self.steps + done


class MixedOrder:
    """The order over mixes that follow each other.

    ``corpora`` are those of all mixes, each once; the rows of the order name them by their number.

    Raises:
        ConfigError: an epoch of a mix is smaller than one batch, or as for :class:`SampleOrder`.
    """

    def __init__(self, mixes: Sequence[DataMix], seed: int, window: int, global_batch: int) -> None:
        self._batch = global_batch
        corpora: dict[tuple[str, str, int], Corpus] = {}
        self._phases: list[MixPhase] = []
        served: dict[int, int] = {}
        for mix in mixes:
            keys = _keys(mix.corpora)
            for key, corpus in zip(keys, mix.corpora, strict=True):
                corpora.setdefault(key, corpus)
            numbers = tuple(list(corpora).index(key) for key in keys)
            epoch = self._end_phase(mix.from_step, served)
            own = tuple(served.get(number, 0) for number in numbers)
            order = SampleOrder(mix.corpora, seed, window, Beginning(epoch, numbers, own))
            if order.pairs < global_batch:
                raise ConfigError(
                    f"global_batch {global_batch} is larger than an epoch of {order.pairs} pairs"
                )
            self._phases.append(MixPhase(mix.from_step, epoch, order, order.pairs // global_batch))
        self.corpora = tuple(corpora.values())

    def rows(self, epoch: int, start: int, stop: int) -> Order:
        """Return the rows ``start`` to ``stop`` of an epoch, as :meth:`SampleOrder.rows`."""
        return self._phase(epoch).order.rows(epoch, start, stop)

    def pairs(self, epoch: int) -> int:
        """Return how many pairs an epoch has, if no change of the mix ends it before."""
        return self._phase(epoch).order.pairs

    def pairs_of_each(self, epoch: int) -> list[int]:
        """Return how many of them come from each corpus of the mix."""
        return self._phase(epoch).order.pairs_of_each

    def steps(self, epoch: int) -> int:
        """Return how many steps an epoch has."""
        phase = self._phase(epoch)
        following = self._phases[self._phases.index(phase) + 1 :]
        left = following[0].first_step - phase.step(epoch) if following else phase.steps
        return min(phase.steps, left)

    def step(self, epoch: int, sample: int) -> int:
        """Return how many steps of the run are done when ``sample`` pairs of an epoch are."""
        return self._phase(epoch).step(epoch, sample // self._batch)

    def _phase(self, epoch: int) -> MixPhase:
        return next(one for one in reversed(self._phases) if one.first_epoch <= epoch)

    def _end_phase(self, step: int, served: dict[int, int]) -> int:
        """Count what was served before ``step``; return the first epoch behind it."""
        if not self._phases:
            return 0
        last = self._phases[-1]
        epochs, done = divmod(step - last.first_step, last.steps)
        epoch = last.first_epoch + epochs
        served |= last.order.served(epoch, done * self._batch)
        return epoch + (done > 0)


def _keys(corpora: Sequence[Corpus]) -> list[tuple[str, str, int]]:
    """Return what a corpus is known by in all mixes; the same one may be in a mix several times."""
    places = [(corpus.folder, corpus.manifest_sha256) for corpus in corpora]
    return [(*place, places[:number].count(place)) for number, place in enumerate(places)]
