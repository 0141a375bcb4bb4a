"""One step's pairs into one rank's batch: read, replaced where they are bad, decoded and cut."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from timbre.audio import Int16Wave
from timbre.errors import ShardError
from timbre.shards import Corpus, PairBytes, PairEntry, cut_segment
from timbre.storage import StoreError
from timbre.stream.bad_pair import BadPair
from timbre.stream.counters import Counters
from timbre.stream.mixes import MixedOrder
from timbre.stream.reader import PairReader, PairRequest
from timbre.stream.shared_batches import Loan, RowPool, Shape
from timbre.stream.straight import Aim, StraightRead

# What reading brings of a pair.
PairReading = PairBytes | StraightRead | BadPair

# So many unusable pairs in a row end the run: the data is broken, not a pair.
MAX_BAD_IN_A_ROW = 100
# Batches of a remote store that are on their way while one is decoded.
AHEAD = 2
# Whether its parent still wants them is looked at so often.
LOOK_SECONDS = 0.5


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


class FilledBatch(NamedTuple):
    """A batch on its way out of a reading process: plain numbers, and where its waveforms are."""

    waves: Loan | tuple[Tensor, ...]
    bandwidth_hz: list[float]
    step: "OrderPlace"
    keys: list[str]
    replaced: list[BadPair]
    took: Counters

    def open(self, pool: RowPool | None) -> PairBatch:
        """Return the batch; ``pool`` is what the reading processes were given."""
        waves = self.waves
        if isinstance(waves, Loan):
            assert pool is not None
            waves = tuple(pool.tensors(waves))
        degraded, clean, *noisy = waves
        return PairBatch(
            degraded=degraded,
            clean=clean,
            noisy=noisy[0] if noisy else None,
            bandwidth_hz=torch.tensor(self.bandwidth_hz),
            positions=torch.arange(self.step.first, self.step.first + len(self.keys)),
            epoch=self.step.epoch,
            keys=self.keys,
            replaced=self.replaced,
            took=self.took,
        )


class ReadFailure(NamedTuple):
    """What a worker sends instead of a batch when it cannot go on."""

    message: str
    store: bool


class OrderPlace(NamedTuple):
    """A rank's share of a global batch, by its first place in an epoch's order."""

    epoch: int
    first: int


class BatchMaker:
    """Makes the batches of one process.

    Args:
        corpora, order: what the order's rows mean.
        reader: brings the bytes; its sides are ``degraded``, ``clean``, and perhaps ``noisy``.
        shape: of a batch.
        seed: what cuts are drawn from, with epoch and position.
        pool: where a reading process puts its batches, if it can.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        order: MixedOrder,
        reader: PairReader,
        shape: Shape,
        seed: int,
        pool: RowPool | None,
    ) -> None:
        self._corpora, self._order, self._reader = corpora, order, reader
        self._shape, self._seed, self._pool = shape, seed, pool
        self._last_counters = Counters()

    def batches(
        self, steps: Iterator[OrderPlace], ahead: int, is_ending: Callable[[], bool]
    ) -> Iterator[FilledBatch | ReadFailure]:
        """Yield a batch a step, or a last ReadFailure; ``ahead`` steps are being read meanwhile.

        None is waited for once ``is_ending``.
        """
        try:
            for step, pairs in self._read(steps, ahead, is_ending):
                yield self._make(step, pairs)
        except (ShardError, StoreError) as error:
            yield ReadFailure(str(error), isinstance(error, StoreError))
        finally:
            self._reader.close()

    def _read(
        self, steps: Iterator[OrderPlace], ahead: int, is_ending: Callable[[], bool]
    ) -> Iterator[tuple[OrderPlace, Iterator[PairReading] | None]]:
        """Yield the steps, which never end, with their bytes, read while earlier ones are decoded.

        None stands for bytes that are read when the batch is made.
        """
        if not ahead:
            yield from ((step, None) for step in steps)
            return
        on_their_way: deque[tuple[OrderPlace, Future[list[PairReading]]]] = deque()
        pool = ThreadPoolExecutor(ahead, thread_name_prefix="ahead")
        try:
            for step in steps:
                pairs = pool.submit(lambda step: list(self._fetch(step)), step)
                on_their_way.append((step, pairs))
                if len(on_their_way) > ahead:
                    first, pairs = on_their_way.popleft()
                    yield first, iter(_await(pairs, is_ending))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(
        self, step: OrderPlace, count: int = 0, aims: Sequence[Aim] = ()
    ) -> Iterator[PairReading]:
        """Yield the pairs from a step's first on: those of the step, or ``count``."""
        requests = []
        rows = self._order.rows(step.epoch, step.first, step.first + (count or self._shape.pairs))
        for corpus_number, shard, pair in rows.tolist():
            corpus = self._corpora[corpus_number]
            requests.append(
                PairRequest(corpus.folder, corpus.index_folder, corpus.shards[shard], pair)
            )
        return self._reader.read(requests, aims)

    def _make(self, step: OrderPlace, pairs: Iterator[PairReading] | None) -> FilledBatch:
        info = get_worker_info()
        loan = self._pool.take(info.id) if info and self._pool else None
        waves: Loan | tuple[Tensor, ...]
        if loan and self._pool:
            waves, batch = loan, self._pool.place(loan)
        else:
            fresh = torch.empty(self._shape, dtype=torch.int16)
            waves, batch = fresh.unbind(0), fresh.numpy()
        places = [OrderPlace(step.epoch, step.first + row) for row in range(self._shape.pairs)]
        aims = [Aim(batch[:, row], (self._seed, *place)) for row, place in enumerate(places)]
        entries = []
        replaced: list[BadPair] = []
        for place, aim, pair in zip(
            places, aims, pairs or self._fetch(step, aims=aims), strict=True
        ):
            entries.append(self._fill(aim, pair, place, replaced))
        bandwidths = [entry.bandwidth_hz for entry in entries]
        keys = [entry.key for entry in entries]
        return FilledBatch(waves, bandwidths, step, keys, replaced, self._took())

    def _fill(
        self, aim: Aim, pair: PairReading, place: OrderPlace, replaced: list[BadPair]
    ) -> PairEntry:
        """Write a pair's sides into its rows; for a bad one, the next in order that can be used.

        Only the place's own pair is told as replaced: those after it have places of their own.
        """
        for offset in range(1, MAX_BAD_IN_A_ROW + 1):
            if isinstance(pair, StraightRead):
                return pair.place.entry
            if isinstance(pair, PairBytes):
                try:
                    _write(aim.rows, cut_segment(pair, self._shape.samples, aim.seed))
                    return pair.place.entry
                except ShardError as error:
                    pair = BadPair.of(pair.place.url, pair.place.entry.key, error)
            last = pair
            if offset == 1:
                replaced.append(last)
            (pair,) = self._fetch(OrderPlace(place.epoch, place.first + offset), 1)
        raise ShardError(f"{MAX_BAD_IN_A_ROW} pairs in a row cannot be read; last: {last}")

    def _took(self) -> Counters:
        """Return what reading took since this was last asked."""
        now, before = self._reader.counters(), self._last_counters
        self._last_counters = now
        return now - before


def _write(rows: NDArray[np.int16], waves: Sequence[Int16Wave]) -> None:
    """Write waves ``(up to samples,)`` into rows ``(sides, samples)``, silence behind them."""
    for row, wave in zip(rows, waves, strict=True):
        row[: len(wave)] = wave
        row[len(wave) :] = 0


def _await(pairs: "Future[list[PairReading]]", is_ending: Callable[[], bool]) -> list[PairReading]:
    """Return what is on its way, or raise StoreError if nobody wants it any more."""
    while not wait([pairs], LOOK_SECONDS).done:
        if is_ending():
            raise StoreError("ended meanwhile")
    return pairs.result()
