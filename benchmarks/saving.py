"""How long a save holds training up: the copy of the state, against writing it while training waits.

Run as `python -m benchmarks.saving [--size base]`. The state is that of both networks after a step; both
sides take turns, and the ratio is the median over rounds. On one thread: torch copies on one.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
from accelerate import Accelerator

from benchmarks.report import print_figure, print_machine, print_ratios
from timbre.models import GeneratorConfig
from timbre.models.discriminators import DiscriminatorConfig
from timbre.train import checkpoints
from timbre.train.gan.gan import Gan, OptimizerConfig
from timbre.train.saver import HostCopy

BENCH = "saving"
ROUNDS = 5


def main() -> None:
    """Measure both sides; print figures and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("tiny", "small", "base"), default="base")
    options = parser.parse_args()
    print_machine(BENCH)
    gan = Gan(
        GeneratorConfig(size=options.size),
        DiscriminatorConfig(),
        OptimizerConfig(),
        1,
        "fp32",
        Accelerator(),
    )
    for descent in (gan.generator_descent, gan.discriminator_descent):
        for parameter in descent.optimizer.param_groups[0]["params"]:
            parameter.grad = torch.randn_like(parameter)
        descent.optimizer.step()
    copies = HostCopy()
    copies.take({"gan": gan.state_dict()})
    seconds: dict[str, list[float]] = {"copy": [], "save": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            state = {"gan": gan.state_dict()}
            seconds["copy"].append(seconds_of(partial(copies.take, state)))
            write = partial(checkpoints.save, folder, number, state, 1)
            seconds["save"].append(seconds_of(write))
    for side, times in seconds.items():
        print_figure(BENCH, f"{options.size}, {side}", "median", statistics.median(times), "s")
    pairs = zip(seconds["copy"], seconds["save"], strict=True)
    print_ratios(BENCH, copy_to_save=statistics.median(copy / save for copy, save in pairs))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
