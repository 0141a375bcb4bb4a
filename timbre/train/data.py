"""What a run trains on: the batches of this rank, what they took, and how all ranks end together."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from timbre import shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import ConfigError, LostWorkerError, ShardError, TimbreError, WorkError
from timbre.shards import Corpus, holds_noisy
from timbre.storage import StoreError
from timbre.stream import (
    Counters,
    DeviceLoader,
    PairBatch,
    PairStream,
    Place,
    StreamConfig,
    open_mixes,
)
from timbre.train.config import TrainConfig
from timbre.train.interruption import (
    Interruption,
    WaitInterruptedError,
    kill_stopped_processes,
)
from timbre.train.ranks import failing_together

# Few bad pairs are no reason to stop, whatever share of a short run they are.
BAD_PAIRS_FREE = 10


class DataCounts(NamedTuple):
    """What one rank counts beside what reading took; the waiting since the last time."""

    failures: float
    served: float
    replaced: float
    waited_seconds: float
    steps: float


class TrainingData:
    """One rank's batches; all ranks must build it from the same config.

    ``end`` is why there are no more, if it is no fault of the data: a signal that came while a batch
    was waited for, or a reading process that was killed. ``waited_seconds`` is what a step of this rank waited for its batch before the last
    :meth:`settle`. ``denoisers`` are those whose output the pairs hold.

    Raises:
        ConfigError: the config contradicts the data or the number of ranks.
        ShardError, OSError: a manifest cannot be read, or with ``generator.noisy_input`` the first
            shard's index.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator) -> None:
        self._accelerator, self._config = accelerator, config
        if accelerator.is_main_process:
            # Foreign tars are indexed by one rank, if at all; what is wrong, each says for itself.
            with suppress(TimbreError, OSError):
                open_mixes(config.data, config.data_changes, "train")
        accelerator.wait_for_everyone()
        mix, *changes = open_mixes(config.data, config.data_changes, "train")
        corpora = [corpus for one in (mix, *changes) for corpus in one.corpora]
        _check_cache(config, corpora)
        _check_noisy(config, corpora)
        self.denoisers = sorted({name for corpus in corpora for name in corpus.denoisers})
        self.stream = PairStream(
            mix.corpora,
            StreamConfig(
                segment=round(config.segment_seconds * SAMPLE_RATE),
                global_batch=config.global_batch,
                seed=config.seed,
                window=config.shuffle_window,
                workers=config.workers,
                noisy=config.generator.noisy_input,
                reading=config.reading,
            ),
            Place(accelerator.process_index, accelerator.num_processes),
            changes,
        )
        _refuse_different(self.stream)
        self.loader = DeviceLoader(self.stream, accelerator)
        self._failure: ShardError | StoreError | LostWorkerError | None = None
        self.end: WaitInterruptedError | WorkError | None = None
        self._waited_before, self._steps = 0.0, 0
        self.waited_seconds = 0.0

    def batches(self, interruption: Interruption) -> Iterator[PairBatch]:
        """Yield batches on this rank's device, until ``end`` says why there are no more.

        One of several ranks that cannot go on yields silence instead, so that the others are not
        left waiting in a step, until all of them hear of it in :meth:`settle`, before anything is saved.

        Raises:
            ShardError, StoreError: the only rank cannot read its data.
        """
        alone = self._accelerator.num_processes == 1
        batches = self._endless()
        try:
            while (batch := self._next(batches, interruption)) is not None:
                self._steps += 1
                yield batch
        except (ShardError, StoreError, LostWorkerError) as error:
            if alone:
                raise
            self._failure = error
        if alone:
            return
        silence = self._silence()
        while True:
            yield silence

    def _endless(self) -> Iterator[PairBatch]:
        for _ in count():
            yield from self.loader

    def _next(self, batches: Iterator[PairBatch], interruption: Interruption) -> PairBatch | None:
        """Return the next batch; None if a signal or a lost process has ended the wait for it."""
        if self._accelerator.num_processes > 1:
            # The others would go on, and this rank's silence would be trained on and saved. So a
            # signal waits for the batch, and a lost process ends all ranks before the next save.
            return next(batches)
        stream = self.stream
        before = stream.epoch, stream.sample_in_epoch
        try:
            with interruption.break_wait():
                return next(batches)
        except WaitInterruptedError as interrupt_error:
            self.end = interrupt_error
        except LostWorkerError as error:
            self.end = error
        kill_stopped_processes()
        # The batch may have been counted already.
        stream.epoch, stream.sample_in_epoch = before
        return None

    def close(self) -> None:
        """End the reading processes."""
        self.loader.close()

    def settle(self) -> dict[str, float]:
        """Return what is to be logged of the data, the same on all ranks (a sync point).

        Counts are of all ranks since this process began. ``data/wait_seconds`` is what a step waited
        for its batch since the last call, on the rank that waited longest.

        Raises:
            ShardError, StoreError: on all ranks, if one cannot go on, or more pairs than
                ``max_bad_fraction`` could not be read.
        """
        stream = self.stream
        seconds = self.loader.waited_seconds - self._waited_before
        has_failed = self._failure is not None
        mine = DataCounts(has_failed, stream.served, stream.replaced, seconds, self._steps)
        self.waited_seconds = seconds / max(self._steps, 1)
        self._waited_before, self._steps = self.loader.waited_seconds, 0
        row = torch.tensor([[*mine, *stream.took]], dtype=torch.float64)
        rows = self._accelerator.gather(row.to(self._accelerator.device)).cpu()
        sums = rows.sum(0).tolist()
        total, took = DataCounts(*sums[: len(mine)]), Counters(*sums[len(mine) :])
        with failing_together(self._accelerator):
            self._refuse_bad_data(total)
        return {
            "data/epoch": stream.epoch + stream.sample_in_epoch / stream.pairs,
            "data/wait_seconds": float((rows[:, 3] / rows[:, 4].clamp(min=1)).max()),
            "data/bad_pairs": total.replaced,
            **{f"data/{name}": value for name, value in took._asdict().items()},
        }

    def _refuse_bad_data(self, total: DataCounts) -> None:
        """Raise on a rank that cannot go on, or has seen one of too many bad pairs."""
        if self._failure is not None:
            raise self._failure
        limit = max(BAD_PAIRS_FREE, self._config.max_bad_fraction * total.served)
        last = self.stream.last_replaced
        if total.replaced > limit and last is not None:
            raise ShardError(
                f"{total.replaced:.0f} of {total.served:.0f} pairs could not be read, more than "
                f"max_bad_fraction {self._config.max_bad_fraction}; for example {last}"
            )

    def _silence(self) -> PairBatch:
        config, world = self._config, self._accelerator.num_processes
        size = config.global_batch // world
        waves = torch.zeros(size, self.stream.config.segment, dtype=torch.int16)
        silence = PairBatch(
            degraded=waves,
            clean=waves,
            noisy=waves if self.stream.config.noisy else None,
            bandwidth_hz=torch.full((size,), SAMPLE_RATE / 2),
            positions=torch.arange(size),
            epoch=0,
            keys=[],
            replaced=[],
            took=Counters(),
        )
        return silence.change(lambda tensor: tensor.to(self._accelerator.device))


def _refuse_different(stream: PairStream) -> None:
    """Raise ConfigError on every rank if they see different data; a collective."""
    states = gather_object([stream.state_dict()])
    for rank, state in enumerate(states):
        if state != states[0]:
            names = ", ".join(name for name in state if state[name] != states[0][name])
            raise ConfigError(
                f"data: rank {rank} sees other data than rank 0: {names} differ; all ranks must read "
                "the same manifests, and nothing may be added while they start"
            )


def _check_cache(config: TrainConfig, corpora: list[Corpus]) -> None:
    remote = [corpus for corpus in corpora if not storage.is_local(corpus.folder)]
    largest = max((shard.bytes for corpus in remote for shard in corpus.shards), default=0)
    if config.reading.cache_dir is not None and config.reading.cache_bytes < largest:
        raise ConfigError(
            f"reading.cache_bytes {config.reading.cache_bytes}: expected at least {largest}, the bytes "
            "of the largest shard"
        )


def _check_noisy(config: TrainConfig, corpora: list[Corpus]) -> None:
    """Refuse shards without the side that the generator is to hear: all are like the first."""
    if not config.generator.noisy_input:
        return
    for corpus in corpora:
        index = shards.load_index(corpus.index_folder, corpus.shards[0])
        if not holds_noisy(index.pairs[0]):
            raise ConfigError(
                f"generator.noisy_input true: {shards.manifest_url(corpus.folder)}: its shards hold "
                "no noisy side; expected shards made by prep with store_noisy: true"
            )
