"""Run by torchrun: every rank writes its figures of some validations and of its first steps."""

import json
import os
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from timbre import config as configs
from timbre.train.config import TrainConfig
from timbre.train.loop import train_step
from timbre.train.run import Run, open_run

# What the generator does in the validation of each step: nothing, right, wrong.
GAINS = (1.0, 2.0, 0.5)
STEPS = 4


class Louder(nn.Module):
    """A generator that does one thing: the degraded side of made-up shards is half the clean one."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, waves: Tensor, noisy: Tensor | None = None) -> Tensor:
        return self.gain * waves


def figures(run: Run, gain: float) -> dict[str, str]:
    """Return what a validation of ``Louder(gain)`` measures, to the last bit."""
    run.gan.average = Louder(gain)
    values = run.validation.measure(run.gan, run.reconstruction)
    return {name: value.hex() for name, value in values.items()}


def best_so_far(run: Run) -> list[list[Any]]:
    """Validate once for each gain; return after each the best score and its step so far."""
    bests = []
    whole = run.gan.average
    for step, gain in enumerate(GAINS):
        run.gan.average, run.gan.step = Louder(gain), step
        run.validate()
        bests.append([run.state.best_score.hex(), run.state.best_step])
    run.gan.average, run.gan.step = whole, 0
    return bests


def rates(run: Run, steps: int) -> list[float]:
    """Take some steps and return the learning rate of each."""
    optimizer, values = run.gan.generator_descent.optimizer, []
    for batch in islice(run.batches(), steps):
        run.watch(train_step(run, batch))
        values.append(float(optimizer.param_groups[0]["lr"]))
    return values


def main(config_path: str, out: str) -> None:
    torch.set_num_threads(1)
    run = open_run(configs.load(TrainConfig, config_path))
    report: dict[str, Any] = {"best": best_so_far(run), "rates": rates(run, STEPS)}
    run.save()
    report["figures"] = figures(run, GAINS[1])
    Path(out, f"rank{os.environ['RANK']}.json").write_text(json.dumps(report))
    run.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
