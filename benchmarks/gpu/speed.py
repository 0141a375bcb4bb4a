"""Cases that time training steps on the GPU: alone, by part, against DAC's, compiled, as graphs."""

import copy
import statistics
import time

import torch
from torch import Tensor, nn

from benchmarks.gpu.setting import PRECISIONS, NothingToMeasureError, Setting, Tell, allow_tf32
from benchmarks.train_step import (
    Side,
    build_sides,
    clock,
    interleaved,
    measure_parts,
    peak_gib,
    ratios_of,
    synchronise,
)
from timbre.models import GeneratorConfig, build_generator
from timbre.stream.augment import augment
from timbre.train.gan.gan import DTYPES
from timbre.train.loop import train_step
from timbre.train.losses.reconstruction import LossConfig, ReconstructionLoss
from timbre.train.step import descend

# Steps are repeated for about so many seconds.
STEP_SECONDS = 1.5


def step_speed(
    setting: Setting, tell: Tell, preset: str, precision: str, batch: int, seconds: float
) -> None:
    """A whole step in the adversarial phase, over and over on one batch."""
    size = setting.size(batch, seconds)
    url = setting.noise_shards(size)
    with setting.adversarial(url, preset, size, precision) as (run, batches):
        given = next(batches)

        def step() -> None:
            train_step(run, given)

        repeats = steady(setting, step)
        synchronise(setting.device)
        begun = time.perf_counter()
        for _ in range(repeats):
            step()
        told = time.perf_counter() - begun
        synchronise(setting.device)
        taken = time.perf_counter() - begun
        tell("step", 1e3 * taken / repeats, "ms")
        tell("speed", size.batch * size.seconds * repeats / taken, "x real time")
        # Near 100: the device waits for the host, which is too slow at telling it what to do.
        tell("host busy", 100 * told / taken, "% of the time")
        if setting.on_gpu:
            tell("peak memory", peak_gib(step), "GiB")


def step_parts(
    setting: Setting, tell: Tell, preset: str, precision: str, batch: int, seconds: float
) -> None:
    """Each part of a step alone."""
    size = setting.size(batch, seconds)
    url = setting.noise_shards(size)
    with setting.adversarial(url, preset, size, precision) as (run, batches):
        given = next(batches)
        steady(setting, lambda: train_step(run, given))  # so that the optimizers have gradients
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
        taken = interleaved(sides, size, setting.device)
        for name, spent in taken.items():
            speed = size.batch * size.seconds / statistics.median(spent)
            tell(f"{name}: speed", speed, "x real time")
        if setting.on_gpu:
            for name, side in sides.items():
                tell(f"{name}: peak memory", peak_gib(side), "GiB, all networks resident")
        for name, ratio in ratios_of(taken).items():
            tell(name, ratio, "ratio")


def compiled_generator(setting: Setting, tell: Tell) -> None:
    """The generator forwards and backwards, eager and by torch.compile."""
    size = setting.size(32, 1.0)
    waves = 0.1 * torch.randn(size.batch, 1, round(size.seconds * 48_000), device=setting.device)
    eager = build_generator(GeneratorConfig(size=size.generator)).to(setting.device)  # type: ignore[arg-type]
    compiled = copy.deepcopy(eager)
    compiled.compile()
    allow_tf32(True)

    def through(network: nn.Module) -> None:
        with torch.autocast(setting.device.type, torch.bfloat16):
            output: Tensor = network(waves)
        torch.autograd.backward(output.float().square().mean())

    tell_gain(
        setting, tell, size.repeats, lambda: through(eager), lambda: through(compiled), "compiled"
    )


def compiled_step(setting: Setting, tell: Tell, preset: str) -> None:
    """A whole step, eager and with `compile: true`."""
    size = setting.size(32, 1.0)
    url = setting.noise_shards(size)
    with (
        setting.adversarial(url, preset, size, "bf16") as (eager, batches),
        setting.adversarial(url, preset, size, "bf16") as (compiled, _),
    ):
        compiled.gan.compile()
        given = next(batches)
        tell_gain(
            setting,
            tell,
            size.repeats,
            lambda: train_step(eager, given),
            lambda: train_step(compiled, given),
            "compiled",
        )


def tell_gain(
    setting: Setting, tell: Tell, repeats: int, plain: Side, faster: Side, name: str
) -> None:
    """Tell how long both take, how long the faster one needs to get going, and the gain."""
    first = clock(faster, setting.device) + clock(faster, setting.device)
    steady(setting, plain)
    rounds = [
        (clock(plain, setting.device, repeats), clock(faster, setting.device, repeats))
        for _ in range(1 if setting.quick else 5)
    ]
    without, with_it = (statistics.median(spent) for spent in zip(*rounds, strict=True))
    tell("eager", 1e3 * without, "ms")
    tell(name, 1e3 * with_it, "ms")
    tell(f"{name}: once, before", max(first - 2 * with_it, 0.0), "s")
    tell(f"eager_to_{name}", statistics.median(a / b for a, b in rounds), "ratio")


def graphed_generator(setting: Setting, tell: Tell) -> None:
    """The generator forwards without gradients, eager and as a CUDA graph, by batch."""
    needs_gpu(setting)
    allow_tf32(True)
    network = build_generator(GeneratorConfig(size="small")).to(setting.device).eval()
    for batch in (1, 32):
        waves = 0.1 * torch.randn(batch, 1, 48_000, device=setting.device)
        for precision in ("tf32", "bf16"):
            dtype = DTYPES.get(PRECISIONS[precision][0])
            results: dict[str, Tensor] = {}

            def forward(
                waves: Tensor = waves,
                dtype: torch.dtype | None = dtype,
                results: dict[str, Tensor] = results,
            ) -> None:
                with (
                    torch.no_grad(),
                    torch.autocast("cuda", dtype, enabled=dtype is not None, cache_enabled=False),
                ):
                    results["output"] = network(waves)

            tell_graph(setting, tell, f"batch {batch}, {precision}", forward, results)


def graphed_reconstruction(setting: Setting, tell: Tell) -> None:
    """Generator, reconstruction losses, backwards: the first phase's step but for its end."""
    needs_gpu(setting)
    allow_tf32(True)
    network = build_generator(GeneratorConfig(size="small")).to(setting.device)
    reconstruction = ReconstructionLoss().to(setting.device)
    waves = 0.1 * torch.randn(32, 1, 48_000, device=setting.device)
    clean = 0.1 * torch.randn(32, 1, 48_000, device=setting.device)
    bandwidth_hz = torch.full((32,), 20000.0, device=setting.device)
    weights = LossConfig()
    results: dict[str, Tensor] = {}

    def step() -> None:
        network.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            restored = network(waves).float()
        terms = reconstruction(restored, clean, bandwidth_hz)
        loss = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        torch.autograd.backward(loss)
        results["loss"] = loss.detach()
        gradient = next(network.parameters()).grad
        assert gradient is not None
        results["gradient"] = gradient

    tell_graph(setting, tell, "batch 32, bf16", step, results)


def graphed_step(setting: Setting, tell: Tell, preset: str) -> None:
    """All of an adversarial step behind augmentation as one graph, both optimizers in it."""
    needs_gpu(setting)
    size = setting.size(32, 1.0)
    url = setting.noise_shards(size)
    with setting.adversarial(url, preset, size, "bf16") as (run, batches):
        sides = augment(next(batches), run.config.augment, run.config.seed)
        for descent in (run.gan.generator_descent, run.gan.discriminator_descent):
            for group in descent.optimizer.param_groups:
                group["capturable"] = True  # as a graph demands; rates are then part of it
        results: dict[str, Tensor] = {}

        def step() -> None:
            results["loss"] = descend(run.step_parts(), sides)["g/loss"].detach()

        # Every run changes the weights, so that replayed losses are near eager ones, not equal.
        tell_graph(setting, tell, f"{preset}, batch 32, bf16", step, results)


def tell_graph(
    setting: Setting, tell: Tell, case: str, run: Side, results: dict[str, Tensor]
) -> None:
    """Tell what replaying ``run`` as a CUDA graph gains over running it, and what it changes.

    ``run`` leaves its results, the same tensors each time a graph is replayed.
    """
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    eager = {name: value.detach().clone() for name, value in results.items()}
    repeats = steady(setting, run)
    without = clock(run, setting.device, repeats)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    graph.replay()
    synchronise(setting.device)
    for name, value in results.items():
        size = eager[name].abs().max().clamp(min=1e-12)
        apart = float((value.detach() - eager[name]).abs().max() / size)
        tell(f"{case}: {name} against eager", apart, "of its largest")
    replayed = clock(graph.replay, setting.device, repeats)
    tell(f"{case}: eager", 1e3 * without, "ms")
    tell(f"{case}: graph", 1e3 * replayed, "ms")
    tell(f"{case}: eager_to_graph", without / replayed, "ratio")


def steady(setting: Setting, side: Side) -> int:
    """Run ``side`` until it has what it needs; return how often it fits into the usual time."""
    if setting.quick:
        clock(side, setting.device)
        return 1
    clock(side, setting.device, 3)
    taken = clock(side, setting.device, 2)
    return min(max(round(STEP_SECONDS / taken), 3), 100)


def needs_gpu(setting: Setting) -> None:
    """Skip what only a GPU has."""
    if not setting.on_gpu:
        raise NothingToMeasureError("CUDA graphs need a CUDA device")
