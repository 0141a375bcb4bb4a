"""Cases that time training steps on the GPU: by part, against DAC's, and a compiled generator."""

import copy
import statistics

import torch
from torch import Tensor, nn

from benchmarks.gpu.setting import PRECISIONS, Setting, Tell, allow_tf32
from benchmarks.train_step import (
    Side,
    build_sides,
    clock,
    interleaved,
    measure_parts,
    peak_gib,
    ratios_of,
    steady,
)
from timbre.models import GeneratorConfig, build_generator
from timbre.train.loop import train_step


def step_parts(
    setting: Setting, tell: Tell, preset: str, precision: str, batch: int, seconds: float
) -> None:
    """Each part of a step alone."""
    size = setting.size(batch, seconds)
    url = setting.noise_shards(size)
    with setting.adversarial(url, preset, size, precision) as (run, batches):
        given = next(batches)
        steady(
            lambda: train_step(run, given), setting.device, setting.quick
        )  # so that the optimizers have gradients
        for name, spent in measure_parts(run, given, lambda: next(batches), size).items():
            tell(name, 1e3 * spent, "ms")


def against_dac(setting: Setting, tell: Tell, precision: str, batch: int, seconds: float) -> None:
    """Our step against the structure of DAC's trainer, taking turns."""
    size = setting.size(batch, seconds)
    url = setting.noise_shards(size)
    told = PRECISIONS[precision][0]
    with (
        setting.adversarial(url, "full", size, precision) as (full, batches),
        setting.adversarial(url, "light", size, precision) as (light, _),
    ):
        sides = build_sides({"full": full, "light": light}, next(batches), size, told)  # type: ignore[arg-type]
        seconds_spent = interleaved(sides, size, setting.device)
        for name, spent in seconds_spent.items():
            speed = size.batch * size.seconds / statistics.median(spent)
            tell(f"{name}: speed", speed, "x real time")
        if setting.on_gpu:
            for name, side in sides.items():
                tell(f"{name}: peak memory", peak_gib(side), "GiB, all networks resident")
        for name, ratio in ratios_of(seconds_spent).items():
            tell(name, ratio, "ratio")


def compiled_generator(setting: Setting, tell: Tell) -> None:
    """The generator forwards and backwards, eager and by torch.compile."""
    size = setting.size(32, 1.0)
    waves = 0.1 * torch.randn(size.batch, 1, round(size.seconds * 48_000), device=setting.device)
    eager = build_generator(GeneratorConfig(size=size.generator)).to(setting.device)  # type: ignore[arg-type]
    compiled = copy.deepcopy(eager)
    # A compiler's work takes a CPU minutes; that it is asked shows there.
    compiled.compile(backend="eager" if setting.quick else "inductor")
    allow_tf32(True)

    def through(network: nn.Module) -> None:
        with torch.autocast(setting.device.type, torch.bfloat16):
            output: Tensor = network(waves)
        torch.autograd.backward(output.float().square().mean())

    tell_gain(
        setting, tell, size.repeats, lambda: through(eager), lambda: through(compiled), "compiled"
    )


def tell_gain(
    setting: Setting, tell: Tell, repeats: int, plain: Side, faster: Side, name: str
) -> None:
    """Tell how long both take, how long the faster one needs to get going, and the gain."""
    first = clock(faster, setting.device) + clock(faster, setting.device)
    steady(plain, setting.device, setting.quick)
    rounds = [
        (clock(plain, setting.device, repeats), clock(faster, setting.device, repeats))
        for _ in range(1 if setting.quick else 5)
    ]
    without, with_it = (statistics.median(spent) for spent in zip(*rounds, strict=True))
    tell("eager", 1e3 * without, "ms")
    tell(name, 1e3 * with_it, "ms")
    tell(f"{name}: once, before", max(first - 2 * with_it, 0.0), "s")
    tell(f"eager_to_{name}", statistics.median(a / b for a, b in rounds), "ratio")
