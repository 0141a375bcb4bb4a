"""A step of a run, taken again from the checkpoint before it."""

from typing import Any, NamedTuple

import numpy as np
import torch

from timbre import storage
from timbre.errors import ConfigError
from timbre.models import checkpoint
from timbre.peek.listing import batch_at
from timbre.replay.pairs import PairWeight, weigh_pairs
from timbre.stream import MixedOrder, PairBatch, open_mixes
from timbre.train import checkpoints
from timbre.train.config import TrainConfig
from timbre.train.loop import train_step
from timbre.train.run import Run, open_run


class Replay(NamedTuple):
    """A step that was repeated.

    Attributes:
        start: the step whose checkpoint the replay began at; 0 is the start of the run.
        batch: the step's pairs.
        shards: the tar of each pair.
        metrics: the scalars of the step.
        weights: what each pair weighs; empty where nobody asked.
        same: whether the state after it is that of the run's checkpoint, to the last bit; None where the
            run has none of that step.
    """

    start: int
    batch: PairBatch
    shards: tuple[str, ...]
    metrics: dict[str, float]
    weights: list[PairWeight]
    same: bool | None


def replay_step(config: TrainConfig, step: int, weighs: bool) -> Replay:
    """Return a step of a run, repeated; the run's folder stays as it is.

    On a CPU, and of a run of one rank, all is as it was to the last bit.

    Args:
        config: the run's.
        step: which, from 1 on: the one that the log and the curves have under this number.
        weighs: whether each pair is weighed.

    Raises:
        ConfigError: the run has no such step, or the config contradicts its data.
        ShardError, OSError: the data cannot be read.
        CheckpointError: all checkpoints before the step are damaged.
    """
    if not 1 <= step <= config.steps:
        raise ConfigError(f"--step {step}: expected 1 to {config.steps}, the steps of the run")
    with open_run(config, writes=False, before=step) as run:
        start, weights = run.gan.step, list[PairWeight]()
        for batch in run.batches():
            if run.gan.step == step - 1 and weighs:
                weights = weigh_pairs(run, batch)
            metrics = train_step(run, batch)
            if run.gan.step == step:
                break
        scalars = {name: float(value.detach()) for name, value in metrics.items()}
        shards = _shards_of(config, batch)
        return Replay(start, batch, shards, scalars, weights, _is_as_saved(run, step))


def _shards_of(config: TrainConfig, batch: PairBatch) -> tuple[str, ...]:
    mixes = open_mixes(config.data, config.data_changes, "train")
    order = MixedOrder(mixes, config.seed, config.shuffle_window, config.global_batch)
    places = batch.positions.tolist()
    rows = np.concatenate([order.rows(batch.epoch, place, place + 1) for place in places])
    return batch_at(order.corpora, rows, 0, 0).shards


def _is_as_saved(run: Run, step: int) -> bool | None:
    url = checkpoints.url_of(run.config.run_dir, step)
    if not storage.exists(url):
        return None
    return is_same(run.gan.state_dict(), checkpoint.load(url)["gan"])


def is_same(one: Any, other: Any) -> bool:
    """Return whether two states are equal to the last bit; NaN equals itself."""
    if isinstance(one, torch.Tensor):
        theirs = other.to(one.device)
        return bool(torch.equal(one.nan_to_num(), theirs.nan_to_num()))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other)
