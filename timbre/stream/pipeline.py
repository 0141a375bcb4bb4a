"""Batches of a rank, read ahead by its reading processes: order -> places -> batches."""

import atexit
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import webdataset as wds
from torch.utils.data import DataLoader, get_worker_info

from timbre import storage
from timbre.errors import ShardError
from timbre.shards import NOISY_SIDES, SIDES
from timbre.storage import StoreError
from timbre.stream.batches import AHEAD, BatchMaker, FilledBatch, OrderPlace, PairBatch, ReadFailure
from timbre.stream.mixes import DataMix, MixedOrder
from timbre.stream.reader import PairReader, ReadingConfig
from timbre.stream.reading_processes import (
    SLICE_SECONDS,
    ReadingProcesses,
    Wait,
    batches_in_slices,
)
from timbre.stream.shared_batches import RowPool, Shape

# Two windows of shards at once, as one goes over into the next, and some more.
OPEN_WINDOWS = 3


class StreamConfig(NamedTuple):
    """What is served: lengths in samples, ``global_batch`` in pairs over all ranks.

    ``noisy`` serves what the denoiser was given, too; the shards must hold it.
    """

    segment: int
    global_batch: int
    seed: int
    window: int
    workers: int
    noisy: bool = False
    reading: ReadingConfig = ReadingConfig()


class Place(NamedTuple):
    """A rank among ``world``."""

    rank: int = 0
    world: int = 1


def open_order(mixes: Sequence[DataMix], config: StreamConfig) -> MixedOrder:
    """Return the order in which the pairs of ``mixes`` are served."""
    return MixedOrder(mixes, config.seed, config.window, config.global_batch)


def read_batches(
    mixes: Sequence[DataMix],
    config: StreamConfig,
    place: Place,
    first: OrderPlace,
    while_waiting: Callable[[Wait], None],
) -> Generator[PairBatch, None, None]:
    """Yield a rank's batches from ``first`` on, for ever; see :meth:`PairStream.read_ahead`."""
    sides = NOISY_SIDES if config.noisy else SIDES
    shape = Shape(len(sides), config.global_batch // place.world, config.segment)
    pool = RowPool(config.workers, shape) if RowPool.is_possible() else None
    processes = ReadingProcesses(are_forked=pool is not None)
    atexit.register(processes.end)
    pipeline = wds.DataPipeline(
        partial(_own_places, mixes, config, place, first),
        partial(_batches, mixes, config, shape, pool, processes.is_ending),
    )
    # Each worker makes every n-th batch, and the loader takes them in turn: order is kept.
    loader: DataLoader[Any] = DataLoader(
        pipeline,
        batch_size=None,
        num_workers=config.workers,
        worker_init_fn=processes.begin,
        collate_fn=_as_is,
        timeout=SLICE_SECONDS if config.workers else 0,
        multiprocessing_context="fork" if pool and config.workers else None,
    )
    deadline = config.reading.deadline_seconds
    try:
        for slot in batches_in_slices(loader, processes, deadline, while_waiting):
            if isinstance(slot, ReadFailure):
                raise (StoreError if slot.store else ShardError)(slot.message)
            yield slot.open(pool)
    finally:
        atexit.unregister(processes.end)
        processes.end()


def _own_places(
    mixes: Sequence[DataMix], config: StreamConfig, place: Place, first: OrderPlace
) -> Iterator[OrderPlace]:
    """The pipeline's source: this worker's share of this rank's batches, from ``first`` on."""
    info = get_worker_info()
    worker, workers = (info.id, info.num_workers) if info else (0, 1)
    order, global_batch = open_order(mixes, config), config.global_batch
    size = global_batch // place.world
    epoch, begin = first
    number = 0
    while True:
        for start in range(begin, order.steps(epoch) * global_batch, global_batch):
            if number % workers == worker:
                yield OrderPlace(epoch, start + place.rank * size)
            number += 1
        epoch, begin = epoch + 1, 0


def _batches(
    mixes: Sequence[DataMix],
    config: StreamConfig,
    shape: Shape,
    pool: RowPool | None,
    is_ending: Callable[[], bool],
    steps: Iterator[OrderPlace],
) -> Iterator[FilledBatch | ReadFailure]:
    """The pipeline's second stage: a batch of decoded segments a step."""
    sample_order = open_order(mixes, config)
    corpora = sample_order.corpora
    local = all(storage.is_local(corpus.folder) for corpus in corpora)
    sides = NOISY_SIDES if config.noisy else SIDES
    reader = PairReader(config.reading, sides, OPEN_WINDOWS * config.window * len(corpora))
    maker = BatchMaker(corpora, sample_order, reader, shape, config.seed, pool)
    return maker.batches(steps, 0 if local else AHEAD, is_ending)


def _as_is(slot: Any) -> Any:
    """Return what a reading process made; PyTorch's default looks into every number of it."""
    return slot
