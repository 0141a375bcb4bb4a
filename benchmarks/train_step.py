"""What a training step costs, part by part, and against the structure of DAC's trainer.

Run as `python -m benchmarks.train_step [--device cuda] [--quick]`. The sides take turns on the same
batch, after unmeasured rounds; ratios are medians over rounds of the ratio within a round.
`same_discriminators` gives both our `full` preset; `light` compares ours with `light` to DAC's
structure with DAC's own discriminators. Parts are measured alone, forward and backward together, and
the operators that they call in a step are counted. On a GPU a measurement is of several runs on end, as
steps follow each other in training: the host waits for the device before and after them, not between.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.dac_structure import DAC_PRESET, DacTrainer
from benchmarks.operators import OperatorCount, Operators, count_step
from benchmarks.report import print_figure, print_machine, print_ratios
from tests.help.made_shards import make_shards
from tests.help.plain_gan import PlainDiscriminators
from timbre import config as configs
from timbre.models import GeneratorConfig, build_generator
from timbre.models.discriminators import PRESETS, SubDiscriminator
from timbre.models.stacked_convolutions import PlainConvolution
from timbre.stream import PairBatch
from timbre.train.config import TrainConfig
from timbre.train.gan.gan import Precision
from timbre.train.loop import train_step
from timbre.train.run import Run, open_run

BENCH = "train_step"
# What is measured alone is repeated for about so many seconds.
STEADY_SECONDS = 1.5
Side = Callable[[], object]


class Size(NamedTuple):
    """How much is measured; ``rounds`` of ``repeats`` runs each after ``warm_up`` unmeasured ones."""

    generator: str
    batch: int
    seconds: float
    rounds: int
    warm_up: int
    repeats: int = 1


SIZES = {
    "cpu": Size("small", 2, 1.0, 3, 1),
    "cuda": Size("small", 16, 2.0, 7, 2, 5),
    "quick": Size("tiny", 1, 0.1, 1, 0),
}


def main() -> None:
    """Measure parts and sides; print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--quick", action="store_true", help="sizes that only show that it runs")
    options = parser.parse_args()
    size = SIZES["quick" if options.quick else options.device]
    device = torch.device(options.device)
    print_machine(BENCH)
    with tempfile.TemporaryDirectory() as folder:
        url = make_shards(Path(folder, "shards"), [4 * size.batch], [1], seconds=size.seconds)
        runs = {
            preset: open_adversarial_run(url, f"{folder}/{preset}", preset, size, options.precision)
            for preset in ("full", "light")
        }
        if runs["full"].accelerator.device.type != device.type:
            sys.exit(f"--device {device}: accelerate chose {runs['full'].accelerator.device}")
        loaders = {preset: run.batches() for preset, run in runs.items()}
        batch = next(loaders["full"])
        sides = build_sides(runs, batch, size, options.precision)
        seconds = interleaved(sides, size, device)
        audio = size.batch * size.seconds
        for name, rounds in seconds.items():
            print_figure(BENCH, name, "speed", audio / statistics.median(rounds), "x real time")
        for preset, run in runs.items():
            print_operators(preset, count_step(run, batch))
            data = lambda preset=preset: next(loaders[preset])  # noqa: E731
            for name, spent in measure_parts(run, batch, data, size).items():
                print_figure(BENCH, f"{preset}: {name}", "time", 1e3 * spent, "ms")
        print_memory(sides, device)
        for run in runs.values():
            run.close()
    print_ratios(BENCH, **ratios_of(seconds))


def build_sides(
    runs: dict[str, Run], batch: PairBatch, size: Size, precision: Precision
) -> dict[str, Side]:
    """A step of each run on the batch, by preset, and of DAC's structure with `full` and DAC's own
    discriminators."""
    device = runs["full"].accelerator.device
    sides: dict[str, Side] = {
        f"ours_{preset}": lambda run=run: train_step(run, batch)  # type: ignore[misc]
        for preset, run in runs.items()
    }
    dacs = {
        "full": PlainDiscriminators(PRESETS["full"]),
        "dac": PlainDiscriminators(DAC_PRESET),
    }
    given = to_waves(batch, device)
    generator = GeneratorConfig(size=size.generator)  # type: ignore[arg-type]
    for name, network in dacs.items():
        trainer = DacTrainer(build_generator(generator), network, device, precision)
        sides[f"dac_structure_{name}"] = lambda t=trainer: t.step(*given)  # type: ignore[misc]
    return sides


def ratios_of(seconds: dict[str, list[float]]) -> dict[str, float]:
    """How many times as long a step of DAC's structure takes: medians of a round's ratio."""
    return {
        f"dac_structure_to_ours/{name}": statistics.median(
            dac / ours for dac, ours in zip(seconds[theirs], seconds[mine], strict=True)
        )
        for name, theirs, mine in [
            ("same_discriminators", "dac_structure_full", "ours_full"),
            ("light", "dac_structure_dac", "ours_light"),
        ]
    }


def open_adversarial_run(
    url: str, run_dir: str, preset: str, size: Size, precision: str, **says: Any
) -> Run:
    """Return a run whose next step has every term in it, and measures no shares; ``says`` are keys."""
    tree: dict[str, Any] = {
        "data": [{"manifest": url}],
        "run_dir": run_dir,
        "steps": 10**6,
        "global_batch": size.batch,
        "segment_seconds": size.seconds,
        "precision": precision,
        "generator": {"size": size.generator},
        "discriminator": {"preset": preset},
        "adversarial": {"discriminator_steps": 0, "ramp_steps": 0},
        "workers": 1,
        "log_gradients_every": 10**9,
    }
    run = open_run(configs.from_tree(TrainConfig, tree | says, BENCH))
    run.gan.step = 10**5
    return run


def to_waves(batch: PairBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Degraded and clean ``(batch, 1, samples)`` float32, and the bandwidth ``(batch,)``."""
    degraded, clean = (
        wave.to(device).float()[:, None] / 32768 for wave in (batch.degraded, batch.clean)
    )
    return degraded, clean, batch.bandwidth_hz.to(device)


def interleaved(sides: dict[str, Side], size: Size, device: torch.device) -> dict[str, list[float]]:
    """Seconds that each side's run took in every measured round; the sides take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(size.warm_up + size.rounds):
        for name, side in sides.items():
            spent = clock(side, device, size.repeats)
            if turn >= size.warm_up:
                seconds[name].append(spent)
    return seconds


def clock(side: Side, device: torch.device, repeats: int = 1) -> float:
    """Seconds until the device has done what ``side`` asks of it; the mean of runs on end."""
    synchronise(device)
    begun = time.perf_counter()
    for _ in range(repeats):
        side()
    synchronise(device)
    return (time.perf_counter() - begun) / repeats


def steady(side: Side, device: torch.device, quick: bool) -> int:
    """Run ``side`` until it has what it needs; return how often it fits into the usual time."""
    if quick:
        clock(side, device)
        return 1
    clock(side, device, 5)  # a step that is captured warms up first
    seconds_spent = clock(side, device, 2)
    return min(max(round(STEADY_SECONDS / seconds_spent), 3), 100)


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure_parts(run: Run, batch: PairBatch, data: Side, size: Size) -> dict[str, float]:
    """The median seconds of each part of a step, measured alone."""
    device = run.accelerator.device
    degraded, clean, bandwidth_hz = to_waves(batch, device)
    critic = run.gan.critic

    def restore() -> None:
        with run.gan.autocast(device):
            restored = run.gan.generator(degraded)
        torch.autograd.backward(restored.float().sum())

    def judge(part: SubDiscriminator, convolutions: list[PlainConvolution]) -> None:
        with run.gan.autocast(device):
            logits = part.judge(part(both).to(convolutions[0].weight.dtype), convolutions).logits
        torch.autograd.backward(logits.float().sum(), retain_graph=True)

    def reconstruct() -> None:
        restored = degraded.clone().requires_grad_()
        terms = run.reconstruction(restored, clean, bandwidth_hz)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())

    both = torch.cat([clean, degraded])
    parts: dict[str, Side] = {
        "data wait": data,
        "generator": restore,
        "reconstruction losses": reconstruct,
    }
    with run.gan.autocast(device):
        convolutions = critic.convolutions()
    for part, count in zip(critic.parts, critic.counts, strict=True):
        assert isinstance(part, SubDiscriminator)
        own, convolutions = convolutions[:count], convolutions[count:]
        parts[part.name] = lambda p=part, c=own: judge(p, c)  # type: ignore[misc]
    parts["optimizers"] = lambda: [
        descent.optimizer.step()
        for descent in (run.gan.generator_descent, run.gan.discriminator_descent)
    ]
    seconds = interleaved(parts, size, device)
    return {name: statistics.median(spent) for name, spent in seconds.items()}


def print_operators(preset: str, count: OperatorCount) -> None:
    """Print how many operators the whole step and each part calls, and how many of them do work."""
    parts = count.parts()
    kernels, views = (sum(own[place] for own in parts.values()) for place in (0, 1))
    for name, own in {"whole step": Operators(kernels, views), **parts}.items():
        print_figure(BENCH, f"{preset}: {name}", "operators", own.all, "a step")
        print_figure(BENCH, f"{preset}: {name}", "kernels", own.kernels, "of the operators")


def print_memory(sides: dict[str, Side], device: torch.device) -> None:
    """Print the peak memory: of each side on a GPU, of the whole process on a CPU."""
    if device.type == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print_figure(BENCH, "process", "peak memory", peak, "GiB")
        return
    for name, side in sides.items():
        print_figure(BENCH, name, "peak memory", peak_gib(side), "GiB, all networks resident")


def peak_gib(side: Side) -> float:
    """The most memory that PyTorch had allocated on the GPU at a time while ``side`` ran."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    side()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**30


if __name__ == "__main__":
    main()
