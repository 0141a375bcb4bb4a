"""Run by torchrun: every rank writes its figures of several validations, to the last bit."""

import json
import os
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.help.made_shards import spoil_pair
from timbre import config as configs
from timbre.errors import ShardError, WorkError
from timbre.train.config import TrainConfig
from timbre.train.run import Run, open_run


class Narrow(nn.Linear):
    """A generator that can take no pair."""

    def forward(self, waves: Tensor, _: Tensor | None = None) -> Tensor:
        return super().forward(waves)


def main(config_path: str, out: str) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    config = configs.load(TrainConfig, config_path)
    run = open_run(config)
    torch.manual_seed(1)
    with torch.no_grad():  # a generator that is not the identity, the same on every rank
        for parameter in run.gan.average.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    # The second one knows the degraded side's figures already.
    report = {"first": validate(run), "second": validate(run)}
    report["shown"] = dict.fromkeys(run.validation.excerpts, "")

    whole = run.gan.average
    if rank == 0:  # a fault that is nobody's input
        run.gan.average = Narrow(3, 3)
    report["fault"] = validate(run)

    run.gan.average = whole
    if rank == 0:
        spoil_pair(config.data[0].manifest, 1)
    run.accelerator.wait_for_everyone()
    report["unreadable"] = validate(run)
    if rank == 0:  # the same bit again: whole, for another attempt of the test
        spoil_pair(config.data[0].manifest, 1)
    Path(out, f"rank{rank}.json").write_text(json.dumps(report))
    run.close()


def validate(run: Run) -> dict[str, str]:
    """Return the figures, or the error under its name."""
    try:
        figures = run.validation.measure(run.gan, run.reconstruction)
    except (RuntimeError, ShardError, WorkError) as error:
        return {type(error).__name__: str(error)}
    return {name: value.hex() for name, value in figures.items()}


if __name__ == "__main__":
    main(*sys.argv[1:])
