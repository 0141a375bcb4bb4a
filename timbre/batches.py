"""One step's pairs into one rank's batch: read, replaced where they are bad, decoded and cut."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from timbre.audio import Int16Wave
from timbre.errors import ShardError
from timbre.order import Corpus, SampleOrder
from timbre.pairs import PairBytes, cut_segment
from timbre.reader import BadPair, Counters, PairReader, PairRequest
from timbre.store_errors import StoreError

# So many unusable pairs in a row end the run: the data is broken, not a pair.
MAX_BAD_IN_A_ROW = 100
# Batches of a remote store that are on their way while one is decoded.
AHEAD = 2


class PairBatch(NamedTuple):
    """One rank's share of a global batch.

    ``degraded``, ``clean`` and, where it is served, ``noisy`` are ``(batch, samples)`` int16 and cut
    at the same instant. ``bandwidth_hz`` and ``positions``, places in the epoch's order, are
    ``(batch,)``. ``replaced`` are the pairs that could not be read; the next in order stand for them.
    """

    degraded: Tensor
    clean: Tensor
    noisy: Tensor | None
    bandwidth_hz: Tensor
    positions: Tensor
    epoch: int
    keys: list[str]
    replaced: list[BadPair]
    took: Counters

    def change(self, how: Callable[[Tensor], Tensor]) -> "PairBatch":
        """Return the batch with what the device computes with changed: waveforms and bandwidth."""
        return self._replace(
            degraded=how(self.degraded),
            clean=how(self.clean),
            noisy=None if self.noisy is None else how(self.noisy),
            bandwidth_hz=how(self.bandwidth_hz),
        )


class Failure(NamedTuple):
    """What a worker sends instead of a batch when it cannot go on."""

    message: str
    store: bool


class Step(NamedTuple):
    """A rank's share of a global batch, by its first place in an epoch's order."""

    epoch: int
    first: int


class BatchMaker:
    """Makes the batches of one process.

    Args:
        corpora, order: what the order's rows mean.
        reader: brings the bytes; its sides are ``degraded``, ``clean``, and perhaps ``noisy``.
        shape: (pairs, samples) of a batch.
        seed: what cuts are drawn from, with epoch and position.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        order: SampleOrder,
        reader: PairReader,
        shape: tuple[int, int],
        seed: int,
    ) -> None:
        self._corpora, self._order, self._reader = corpora, order, reader
        self._shape, self._seed = shape, seed
        self._told = Counters()

    def batches(self, steps: Iterator[Step], ahead: int) -> Iterator[PairBatch | Failure]:
        """Yield a batch a step, or a last Failure; ``ahead`` steps are being read meanwhile."""
        try:
            for step, pairs in self._read_ahead(steps, ahead) if ahead else self._read(steps):
                yield self._make(step, pairs)
        except (ShardError, StoreError) as error:
            yield Failure(str(error), isinstance(error, StoreError))
        finally:
            self._reader.close()

    def _read(self, steps: Iterator[Step]) -> Iterator[tuple[Step, list[PairBytes | BadPair]]]:
        for step in steps:
            yield step, self._fetch(step.epoch, step.first, self._shape[0])

    def _read_ahead(
        self, steps: Iterator[Step], ahead: int
    ) -> Iterator[tuple[Step, list[PairBytes | BadPair]]]:
        """The same, with the next steps' bytes on their way while one is decoded."""
        on_their_way: deque[tuple[Step, Future[list[PairBytes | BadPair]]]] = deque()
        pool = ThreadPoolExecutor(ahead, thread_name_prefix="ahead")
        try:
            for step in steps:
                wanted = pool.submit(self._fetch, step.epoch, step.first, self._shape[0])
                on_their_way.append((step, wanted))
                if len(on_their_way) > ahead:
                    first, pairs = on_their_way.popleft()
                    yield first, pairs.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, epoch: int, first: int, count: int) -> list[PairBytes | BadPair]:
        requests = []
        for corpus_number, shard, pair in self._order.rows(epoch, first, first + count).tolist():
            corpus = self._corpora[corpus_number]
            requests.append(PairRequest(corpus.folder, corpus.shards[shard], pair))
        return self._reader.read(requests)

    def _make(self, step: Step, pairs: Sequence[PairBytes | BadPair]) -> PairBatch:
        size, samples = self._shape
        sides = [_new_int16(size, samples) for _ in self._reader.sides]
        waves = [side.numpy() for side in sides]
        entries = []
        replaced: list[BadPair] = []
        for row, pair in enumerate(pairs):
            seed = (self._seed, step.epoch, step.first + row)
            rows = [wave[row] for wave in waves]
            used = self._cut_usable(pair, rows, seed, replaced)
            entries.append(used.place.entry)
        degraded, clean, *noisy = sides
        return PairBatch(
            degraded,
            clean,
            noisy[0] if noisy else None,
            torch.tensor([entry.bandwidth_hz for entry in entries]),
            torch.arange(step.first, step.first + size),
            step.epoch,
            [entry.key for entry in entries],
            replaced,
            self._took(),
        )

    def _cut_usable(
        self,
        pair: PairBytes | BadPair,
        rows: Sequence[Int16Wave],
        seed: tuple[int, int, int],
        replaced: list[BadPair],
    ) -> PairBytes:
        """Fill ``rows`` from the pair, or from the next in order that can be used; return that."""
        _, epoch, position = seed
        for skipped in range(1, MAX_BAD_IN_A_ROW + 1):
            bad = pair if isinstance(pair, BadPair) else _cut(pair, rows, seed)
            if bad is None and isinstance(pair, PairBytes):
                return pair
            replaced += [bad] if bad else []
            (pair,) = self._fetch(epoch, position + skipped, 1)
        raise ShardError(f"{MAX_BAD_IN_A_ROW} pairs in a row cannot be read; last: {replaced[-1]}")

    def _took(self) -> Counters:
        """Return what reading took since this was last asked."""
        now, before = self._reader.counters(), self._told
        self._told = now
        return Counters(*(a - b for a, b in zip(now, before, strict=True)))


def _cut(pair: PairBytes, rows: Sequence[Int16Wave], seed: tuple[int, int, int]) -> BadPair | None:
    """Fill ``rows`` from the pair; return what is wrong with it if that cannot be done."""
    try:
        cut_segment(pair, rows, seed)
    except ShardError as error:
        return BadPair.of(pair.place.url, pair.place.entry.key, error)
    return None


def _new_int16(pairs: int, samples: int) -> Tensor:
    """Return an empty tensor: in a worker in shared memory, so that it is sent without a copy."""
    if get_worker_info() is None:
        return torch.empty(pairs, samples, dtype=torch.int16)
    memory = torch.UntypedStorage._new_shared(2 * pairs * samples)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.int16).set_(memory, 0, (pairs, samples))  # type: ignore[call-overload, no-any-return]
