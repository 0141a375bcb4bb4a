"""The sample order -> batches of decoded segments: deterministic, elastic over ranks, resumable.

A global batch is a slice of the epoch's order and a rank's batch a slice of the global batch: no
rank, worker or process id has a say in what is served when, and resuming is slicing.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeGuard

from timbre.audio import SAMPLE_RATE
from timbre.errors import CheckpointError, ConfigError
from timbre.shards import Corpus
from timbre.stream import order
from timbre.stream.bad_pair import BadPair
from timbre.stream.batches import OrderPlace, PairBatch
from timbre.stream.counters import Counters
from timbre.stream.mixes import DataMix
from timbre.stream.pipeline import Place, StreamConfig, open_order, read_batches
from timbre.stream.reading_processes import Wait, wait_quietly

# What helps where a resume is refused.
HINTS = {
    "manifests": ": the data was added to or changed; to go on with the old data, name "
    "manifest-NNNNNN.json, which lies beside manifest.json; to take what is new from here on, too, "
    "name that file in data, and the new one in data_changes",
    "weights": "; to change them from a step on, leave data as it was and use data_changes",
}


class PairStream:
    """An endless iterator of batches that knows where it is.

    Args:
        corpora: what to serve; all ranks must be given the same.
        config: what a batch is.
        place: whose share of each global batch to serve.
        changes: what to serve instead from a step on, by rising steps.

    Raises:
        ConfigError: the global batch does not divide over the ranks, an epoch is smaller than one
            batch, or a stored pair is shorter than a training segment.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        config: StreamConfig,
        place: Place | None = None,
        changes: Sequence[DataMix] = (),
    ) -> None:
        self.config, self.place = config, place or Place()
        self.mixes = (DataMix(0, tuple(corpora)), *changes)
        self._check_ranks()
        self.order = open_order(self.mixes, config)
        self.epoch, self.sample_in_epoch = 0, 0
        self.served, self.replaced = 0, 0
        self.last_replaced: BadPair | None = None
        self.took = Counters()
        self._check_lengths()

    @property
    def pairs(self) -> int:
        """How many pairs the epoch has that the stream is in, if no change of the mix ends it before."""
        return self.order.pairs(self.epoch)

    @property
    def steps_per_epoch(self) -> int:
        """How many global batches such an epoch has; the tail that is left differs each epoch."""
        return self.pairs // self.config.global_batch

    @property
    def step(self) -> int:
        """How many global batches of the run lie behind the stream."""
        return self.order.step(self.epoch, self.sample_in_epoch)

    @property
    def steps_left(self) -> int:
        """How many of them are left of the epoch that the next batch is from."""
        left = self.order.steps(self.epoch) - self.sample_in_epoch // self.config.global_batch
        return left or self.order.steps(self.epoch + 1)

    def __iter__(self) -> Iterator[PairBatch]:
        """Yield batches from where the stream is, for ever; the state follows what was yielded."""
        for batch in self.read_ahead():
            self.consume(batch)
            yield batch

    def read_ahead(
        self, while_waiting: Callable[[Wait], None] = wait_quietly
    ) -> Generator[PairBatch, None, None]:
        """Yield the same batches, for a caller that tells with :meth:`consume` when each is used.

        Args:
            while_waiting: called every second that a batch is waited for; what it raises ends the
                wait. Without reading processes it is not called.

        Raises:
            ShardError: too many pairs in a row cannot be read.
            StoreError: the store kept failing.
            LostWorkerError: a reading process was killed, or does not answer.
        """
        first = OrderPlace(self.epoch, self.sample_in_epoch)
        yield from read_batches(self.mixes, self.config, self.place, first, while_waiting)

    def consume(self, batch: PairBatch) -> None:
        """Count a batch as used: the state is now behind it."""
        self.epoch = batch.epoch
        self.sample_in_epoch = int(batch.positions[0]) + self.config.global_batch
        self.sample_in_epoch -= self.place.rank * len(batch.keys)
        self.served += len(batch.keys)
        self.replaced += len(batch.replaced)
        self.last_replaced = batch.replaced[-1] if batch.replaced else self.last_replaced
        self.took += batch.took

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream is and what its order depends on."""
        place = {"epoch": self.epoch, "sample_in_epoch": self.sample_in_epoch, "step": self.step}
        return place | self._identity()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where ``state`` was taken; the next iteration starts there, at any number of ranks.

        A change of the mix from the state's step on, or later, may be another one than it was.

        Raises:
            ConfigError: the data or what its order depends on has changed since.
            CheckpointError: the state names no place in the data.
        """
        for name, now in self._identity().items():
            if name != "changes" and state.get(name) != now:
                raise ConfigError(
                    f"cannot resume the data: {name} was {state.get(name)!r} at the checkpoint "
                    f"and is {now!r} now" + HINTS.get(name, "")
                )
        epoch, sample = state.get("epoch"), state.get("sample_in_epoch")
        if not _is_count(epoch) or not _is_count(sample):
            raise CheckpointError(
                f"cannot resume the data: epoch {epoch!r}, sample_in_epoch {sample!r}: expected whole "
                "numbers"
            )
        self._refuse_other_changes(state, epoch, sample)
        whole = self.order.steps(epoch) * self.config.global_batch
        if sample > whole:
            raise CheckpointError(
                f"cannot resume the data: epoch {epoch}, sample_in_epoch {sample!r}: expected at most "
                f"{whole}"
            )
        if sample % self.config.global_batch:
            raise CheckpointError(
                f"cannot resume the data: sample_in_epoch {sample}: expected a multiple of "
                f"global_batch {self.config.global_batch}"
            )
        self.epoch, self.sample_in_epoch = epoch, sample

    def _refuse_other_changes(self, state: dict[str, Any], epoch: int, sample: int) -> None:
        """Raise ConfigError unless all changes before the state's step are those that were made."""
        step = state.get("step", self.order.step(epoch, sample))
        then, now = (
            [change for change in changes if change["from_step"] < step]
            for changes in (state.get("changes", []), self._identity()["changes"])
        )
        if then != now:
            raise ConfigError(
                f"cannot resume the data: the changes before step {step}, at which the checkpoint was "
                f"written, were {then} and are {now} now; leave them as they were, and give a new one a "
                f"from_step of at least {step}"
            )

    def _identity(self) -> dict[str, Any]:
        first, *changes = self.mixes
        return {
            "order": order.VERSION,
            "seed": self.config.seed,
            "window": self.config.window,
            "global_batch": self.config.global_batch,
            **_identity_of(first),
            "changes": [{"from_step": mix.from_step, **_identity_of(mix)} for mix in changes],
        }

    def _check_ranks(self) -> None:
        batch, world = self.config.global_batch, self.place.world
        if batch % world:
            near = sorted({max(batch // world, 1) * world, (batch // world + 1) * world})
            raise ConfigError(
                f"global_batch {batch} does not divide over {world} ranks; near it are "
                + " and ".join(map(str, near))
            )

    def _check_lengths(self) -> None:
        seconds = self.config.segment / SAMPLE_RATE
        for corpus in self.order.corpora:
            if corpus.save_segment_seconds < seconds:
                raise ConfigError(
                    f"segment_seconds {seconds:g} is longer than the stored pairs of "
                    f"{corpus.folder}: save_segment_seconds {corpus.save_segment_seconds:g}"
                )


def _identity_of(mix: DataMix) -> dict[str, Any]:
    return {
        "manifests": [corpus.manifest_sha256 for corpus in mix.corpora],
        "weights": [corpus.weight for corpus in mix.corpora],
    }


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
