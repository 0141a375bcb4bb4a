"""What training costs in CPU time, and how many steps of each generator a budget buys.

A step's cost depends on its phase: the discriminator's steps cost more than reconstruction, and the
generator's steps past it cost most. Each phase is measured in a short trial, the generators by turns.
"""

import math
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from timbre import config as configs
from timbre.shards import DataSource, open_corpus
from timbre.train.config import TrainConfig
from timbre.train.gan.schedule import RECONSTRUCTION_EPOCHS
from timbre.train.loop import train_step
from timbre.train.run import Run, open_run

BENCH = "bake_off"
GENERATORS = ("spectral", "wave")
# Of a run's steps: reconstruction alone, then the discriminator alone, then both while the weight
# rises; full weight for the rest.
RECONSTRUCTION_SHARE = 0.76
DISCRIMINATOR_SHARE = 0.08
RAMP_SHARE = 0.08
LOG_POINTS = 50


class Setting(NamedTuple):
    """What both generators have in common. ``minutes`` None: the fewest that five epochs allow."""

    manifest: str
    folder: str
    minutes: float | None
    size: str
    batch: int
    seconds: float
    learning_rate: float
    validations: int
    perceptual_pairs: int
    rounds: int


class Cost(NamedTuple):
    """CPU seconds: of a step in each phase, of a validation, and of starting."""

    reconstruction: float
    discriminator: float
    adversarial: float
    validation: float
    start: float


class Phases(NamedTuple):
    """How many optimizer steps a run takes, and how many of them each phase."""

    steps: int
    reconstruction: int
    discriminator: int
    ramp: int


def phases(steps: int) -> Phases:
    """Return the phases of a run of so many steps."""
    shares = (RECONSTRUCTION_SHARE, DISCRIMINATOR_SHARE, RAMP_SHARE)
    return Phases(steps, *(math.ceil(share * steps) for share in shares))


def fewest_steps(epoch: int) -> int:
    """Return the fewest steps in which reconstruction alone has its five epochs of ``epoch`` steps."""
    return math.ceil(RECONSTRUCTION_EPOCHS * epoch / RECONSTRUCTION_SHARE)


def cpu_seconds(steps: int, cost: Cost, validations: int) -> float:
    """Return what a run of so many steps costs, validation and its start included."""
    plan = phases(steps)
    adversarial = steps - plan.reconstruction - plan.discriminator
    return (
        cost.start
        + plan.reconstruction * cost.reconstruction
        + plan.discriminator * cost.discriminator
        + adversarial * cost.adversarial
        + validations * cost.validation
    )


def steps_for(
    minutes: float | None, costs: Mapping[str, Cost], epoch: int, validations: int
) -> dict[str, int]:
    """Return for each generator the most steps that cost no more than ``minutes`` of CPU time.

    None takes the fewest minutes in which each generator has its five epochs.

    Raises:
        ValueError: the minutes are too few for that.
    """
    least = max(cpu_seconds(fewest_steps(epoch), cost, validations) for cost in costs.values())
    budget = least if minutes is None else 60 * minutes
    if budget < least:
        raise ValueError(
            f"minutes {minutes}: expected at least {least / 60:.1f}, in which every generator has "
            f"{RECONSTRUCTION_EPOCHS} epochs of {epoch} steps"
        )
    steps = dict.fromkeys(costs, fewest_steps(epoch))
    for name, cost in costs.items():
        while cpu_seconds(steps[name] + 1, cost, validations) <= budget:
            steps[name] += 1
    return steps


def train_config(setting: Setting, name: str, steps: int) -> TrainConfig:
    """Return the config of one generator's run; only the generator, the steps and phases differ."""
    plan = phases(steps)
    every = math.ceil(steps / setting.validations)
    tree: dict[str, Any] = {
        "data": [{"manifest": setting.manifest}],
        "run_dir": f"{setting.folder}/{name}",
        "steps": steps,
        "global_batch": setting.batch,
        "segment_seconds": setting.seconds,
        "precision": "fp32",
        "generator": {"name": name, "size": setting.size},
        "discriminator": {"preset": "light"},
        "optimizer": {
            "learning_rate": setting.learning_rate,
            "warmup_steps": max(1, steps // 20),
            "ema_decay": 0.995,
        },
        "adversarial": {
            "start_step": plan.reconstruction,
            "discriminator_steps": plan.discriminator,
            "ramp_steps": plan.ramp,
        },
        "validation": {
            "perceptual_pairs": setting.perceptual_pairs,
            "harm_pairs": setting.perceptual_pairs,
            "shown_pairs": min(setting.perceptual_pairs, 2),
        },
        "workers": 1,
        "log_every": max(1, steps // LOG_POINTS),
        "log_gradients_every": max(1, steps // LOG_POINTS),
        "validate_every": every,
        "save_every": every,
        "keep_checkpoints": 1,
    }
    return configs.from_tree(TrainConfig, tree, BENCH)


def trial(setting: Setting, folder: str) -> dict[str, Cost]:
    """Return what each generator costs.

    One thread reads, trains and is measured. The first validation is measured, which costs more than
    the later ones: it measures the degraded side too.
    """
    start = time.process_time()
    torch.set_num_threads(1)
    runs = {name: _open(setting, name, folder) for name in GENERATORS}
    seconds: dict[str, list[list[float]]] = {name: [[], [], []] for name in GENERATORS}
    loaders = {name: run.batches() for name, run in runs.items()}
    for turn in range(1 + setting.rounds):
        for phase in range(3):
            for name, run in runs.items():
                # The discriminator is alone for one step, then has its full weight.
                run.gan.step = (1, run.adversarial_start, run.adversarial_start + 1)[phase]
                start_time = time.process_time()
                train_step(run, next(loaders[name]))
                if turn:
                    seconds[name][phase].append(time.process_time() - start_time)
    costs: dict[str, Cost] = {}
    for name, run in runs.items():
        start_time = time.process_time()
        run.validation.measure(run.gan, run.reconstruction)
        validation = time.process_time() - start_time
        medians = [statistics.median(side_seconds) for side_seconds in seconds[name]]
        costs[name] = Cost(medians[0], medians[1], medians[2], validation, start)
        run.close()
    return costs


def steps_per_epoch(setting: Setting) -> int:
    """Return how many whole batches the training pairs are."""
    return open_corpus(DataSource(setting.manifest), "train").pairs // setting.batch


def _open(setting: Setting, name: str, folder: str) -> Run:
    tree = configs.to_tree(train_config(setting, name, 10**6))
    tree |= {
        "run_dir": f"{folder}/{name}",
        "workers": 0,
        "log_gradients_every": 10**9,
        "adversarial": {"start_step": None, "discriminator_steps": 1, "ramp_steps": 0},
    }
    return open_run(configs.from_tree(TrainConfig, tree, BENCH))
