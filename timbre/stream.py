"""The sample order -> batches of decoded segments: deterministic, elastic over ranks, resumable.

A global batch is a slice of the epoch's order and a rank's batch a slice of the global batch: no
rank, worker or process id has a say in what is served when, and resuming is slicing.
"""

import signal
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import webdataset as wds
from torch import Tensor
from torch.utils.data import get_worker_info

from timbre.audio import SAMPLE_RATE, Int16Wave
from timbre.errors import ConfigError, ShardError
from timbre.order import Corpus, Order, mixed_order
from timbre.pairs import PairPlace, open_index, read_segment
from timbre.shards import PairEntry

# This many unusable pairs in a row end the run: the data is broken, not a pair.
MAX_BAD_IN_A_ROW = 100


class StreamConfig(NamedTuple):
    """What is served: lengths in samples, ``global_batch`` in pairs over all ranks."""

    segment: int
    global_batch: int
    seed: int
    window: int
    workers: int


class Place(NamedTuple):
    """A rank among ``world``."""

    rank: int = 0
    world: int = 1


class PairBatch(NamedTuple):
    """One rank's share of a global batch.

    ``degraded`` and ``clean`` are ``(batch, samples)`` int16 and cut at the same instant.
    ``bandwidth_hz`` and ``positions``, places in the epoch's order, are ``(batch,)``.
    ``replaced`` names the pairs that could not be read, and why.
    """

    degraded: Tensor
    clean: Tensor
    bandwidth_hz: Tensor
    positions: Tensor
    epoch: int
    keys: list[str]
    replaced: list[str]


class Failure(NamedTuple):
    """What a worker sends instead of a batch when it cannot go on."""

    message: str


class PairStream:
    """An endless iterator of batches that knows where it is.

    Args:
        corpora: what to serve; all ranks must be given the same.
        config: what a batch is.
        place: whose share of each global batch to serve.

    Raises:
        ConfigError: the global batch does not divide over the ranks, an epoch is smaller than one
            batch, or a stored pair is shorter than a training segment.
    """

    def __init__(
        self, corpora: Sequence[Corpus], config: StreamConfig, place: Place | None = None
    ) -> None:
        self.corpora, self.config, self.place = tuple(corpora), config, place or Place()
        self.epoch, self.sample_in_epoch = 0, 0
        self.served, self.replaced, self.last_replaced = 0, 0, ""
        self._check()

    @property
    def pairs(self) -> int:
        """How many pairs an epoch has."""
        return sum(corpus.pairs for corpus in self.corpora)

    @property
    def steps_per_epoch(self) -> int:
        """How many global batches an epoch has; the tail that is left differs each epoch."""
        return self.pairs // self.config.global_batch

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield batches from where the stream is, for ever; the state follows what was yielded."""
        where = (self.corpora, self.config, self.place, self.epoch, self.sample_in_epoch)
        pipeline = wds.DataPipeline(partial(_own_steps, *where), _read_batches)
        # Each worker makes every n-th batch, and the loader takes them in turn: order is kept.
        loader = wds.WebLoader(
            pipeline,
            batch_size=None,
            num_workers=self.config.workers,
            worker_init_fn=_ignore_signals,
            pin_memory=torch.cuda.is_available(),
        )
        for batch in loader:
            if isinstance(batch, Failure):
                raise ShardError(batch.message)
            self._advance(batch)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream is and what its order depends on."""
        return {"epoch": self.epoch, "sample_in_epoch": self.sample_in_epoch, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where ``state`` was taken; the next iteration starts there, at any number of ranks.

        Raises:
            ConfigError: the data or what its order depends on has changed since.
        """
        for name, now in self._identity().items():
            if state.get(name) != now:
                raise ConfigError(
                    f"cannot resume the data: {name} was {state.get(name)!r} at the checkpoint "
                    f"and is {now!r} now"
                )
        self.epoch, self.sample_in_epoch = state["epoch"], state["sample_in_epoch"]

    def _identity(self) -> dict[str, Any]:
        return {
            "seed": self.config.seed,
            "window": self.config.window,
            "global_batch": self.config.global_batch,
            "manifests": [corpus.manifest_sha256 for corpus in self.corpora],
        }

    def _advance(self, batch: PairBatch) -> None:
        self.epoch = batch.epoch
        self.sample_in_epoch = int(batch.positions[0]) + self.config.global_batch
        self.sample_in_epoch -= self.place.rank * len(batch.keys)
        self.served += len(batch.keys)
        self.replaced += len(batch.replaced)
        self.last_replaced = batch.replaced[-1] if batch.replaced else self.last_replaced

    def _check(self) -> None:
        batch, world = self.config.global_batch, self.place.world
        if batch % world:
            near = sorted({max(batch // world, 1) * world, (batch // world + 1) * world})
            raise ConfigError(
                f"global_batch {batch} does not divide over {world} ranks; near it are "
                + " and ".join(map(str, near))
            )
        if self.steps_per_epoch == 0:
            raise ConfigError(f"global_batch {batch} is larger than an epoch of {self.pairs} pairs")
        seconds = self.config.segment / SAMPLE_RATE
        for corpus in self.corpora:
            if corpus.save_segment_seconds < seconds:
                raise ConfigError(
                    f"segment_seconds {seconds:g} is longer than the stored pairs of "
                    f"{corpus.folder}: save_segment_seconds {corpus.save_segment_seconds:g}"
                )


def _own_steps(
    corpora: tuple[Corpus, ...], config: StreamConfig, place: Place, epoch: int, first: int
) -> Iterator["_Step"]:
    """The pipeline's source: this worker's share of this rank's batches, from ``first`` on."""
    info = get_worker_info()
    worker, workers = (info.id, info.num_workers) if info else (0, 1)
    size = config.global_batch // place.world
    number = 0
    while True:
        rows = mixed_order(corpora, config.seed, epoch, config.window)
        for start in range(first, len(rows) - config.global_batch + 1, config.global_batch):
            if number % workers == worker:
                yield _Step(corpora, config, rows, epoch, start + place.rank * size, size)
            number += 1
        epoch, first = epoch + 1, 0


class _Step(NamedTuple):
    corpora: tuple[Corpus, ...]
    config: StreamConfig
    rows: Order
    epoch: int
    first: int
    size: int


def _read_batches(steps: Iterator[_Step]) -> Iterator[PairBatch | Failure]:
    """The pipeline's second stage: one batch of decoded segments a step."""
    for step in steps:
        try:
            yield _read_batch(step)
        except ShardError as error:
            yield Failure(str(error))
            return


def _read_batch(step: _Step) -> PairBatch:
    shape = (step.size, step.config.segment)
    degraded, clean = _new_int16(shape), _new_int16(shape)
    bandwidth = torch.empty(step.size)
    keys: list[str] = []
    replaced: list[str] = []
    for row in range(step.size):
        position = step.first + row
        entry, waves = _read_usable(step, position, replaced)
        degraded[row], clean[row] = (torch.from_numpy(wave) for wave in waves)
        bandwidth[row] = entry.bandwidth_hz
        keys.append(entry.key)
    positions = torch.arange(step.first, step.first + step.size)
    return PairBatch(degraded, clean, bandwidth, positions, step.epoch, keys, replaced)


def _read_usable(
    step: _Step, position: int, replaced: list[str]
) -> tuple[PairEntry, tuple[Int16Wave, Int16Wave]]:
    """Return the pair at ``position``, or the next in order that can be read; name the others."""
    for skipped in range(MAX_BAD_IN_A_ROW + 1):
        corpus_number, shard_number, number = step.rows[(position + skipped) % len(step.rows)]
        corpus = step.corpora[corpus_number]
        shard = corpus.shards[shard_number]
        try:
            entry = open_index(corpus.folder, shard).pairs[number]
            seed = [step.config.seed, step.epoch, position]
            place = PairPlace(corpus.folder, shard, entry)
            return entry, read_segment(place, step.config.segment, seed)
        except (ShardError, OSError) as error:
            replaced.append(f"{shard.path}, pair {number}: {error}")
    raise ShardError(f"{MAX_BAD_IN_A_ROW + 1} pairs in a row cannot be read; last: {replaced[-1]}")


def _ignore_signals(_: int) -> None:
    """Leave signals to the main process: a scheduler sends them to the whole group.

    A worker ends when its parent does.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _new_int16(shape: tuple[int, int]) -> Tensor:
    """Return an empty tensor: in a worker in shared memory, so that it is sent without a copy."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.int16)
    memory = torch.UntypedStorage._new_shared(2 * shape[0] * shape[1])  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.int16).set_(memory, 0, torch.Size(shape))  # type: ignore[call-overload, no-any-return]
