"""Small runs on made-up shards, and readers of their files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT
from timbre import config as configs
from timbre.train.config import TrainConfig

TINY = str(ROOT / "configs/train_tiny.yaml")
QUICK = (
    "segment_seconds=0.2",
    "steps=8",
    "global_batch=2",
    "optimizer.warmup_steps=2",
    "log_every=2",
    "validate_every=4",
    "save_every=4",
    "workers=0",
)
# 4 steps an epoch: the discriminator learns from step 20 on.
ADVERSARIAL = "adversarial={discriminator_steps: 2, ramp_steps: 2}"
SHORT = (
    "segment_seconds=0.2",
    "steps=8",
    "global_batch=2",
    "optimizer.warmup_steps=1",
    "workers=0",
    "validation={perceptual_pairs: 0, harm_pairs: 2, shown_pairs: 0}",
)
RESTARTS = "optimizer={schedule: warm_restarts, warmup_steps: 1, restart_steps: 2}"
WHOLE_RUN = ("steps=10", "log_every=1", "save_every=2", "validate_every=10", ADVERSARIAL)


def config(url: str, run_dir: Path, *overrides: str) -> TrainConfig:
    words = [f"data=[{{manifest: {url}}}]", f"run_dir={run_dir}", *QUICK, *overrides]
    return configs.load(TrainConfig, TINY, words)


def scalars(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 9, "audio": 9})
    events.Reload()
    return events


def check_same(one: Any, other: Any, where: str = "state") -> None:
    """Fail unless two states are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, rtol=0, atol=0, msg=lambda m: f"{where}: {m}")
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            check_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            check_same(a, b, f"{where}.{number}")
    else:
        assert one == other, where


def config_of(urls: Sequence[str], run_dir: Path, *overrides: str) -> TrainConfig:
    """A run on several manifests, which measures little in validation."""
    data = ", ".join(f"{{manifest: {url}}}" for url in urls)
    words = [f"data=[{data}]", f"run_dir={run_dir}", *SHORT, *overrides]
    return configs.load(TrainConfig, TINY, words)


@contextmanager
def placed_on(device: str) -> Iterator[None]:
    """Have runs placed on a device; what Accelerate had settled before is settled again after."""
    states = (AcceleratorState, PartialState)
    before = [dict(state._shared_state) for state in states]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", str(device == "cpu"))
        for state in states:
            state._shared_state.clear()
        yield
    for state, was in zip(states, before, strict=True):
        state._shared_state.clear()
        state._shared_state.update(was)
