"""Run by torchrun: every rank writes the validation figures it holds, to the last bit."""

import json
import os
import sys
from pathlib import Path

import torch

from timbre import config as configs
from timbre.run import open_run
from timbre.train_config import TrainConfig
from timbre.validate import validate


def main(config_path: str, out: str) -> None:
    torch.set_num_threads(1)
    run = open_run(configs.load(TrainConfig, config_path))
    torch.manual_seed(1)
    with torch.no_grad():  # a generator that is not the identity, the same on every rank
        for parameter in run.gan.average.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    figures = validate(run.gan, run.reconstruction, run.validation, run.accelerator)
    told = {name: value.hex() for name, value in figures.items()}
    Path(out, f"rank{os.environ['RANK']}.json").write_text(json.dumps(told))
    run.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
