"""Cases that hold steps taken as a CUDA graph against steps taken operator by operator.

On a CPU the graph's side goes through the same fixed memory, and nothing is captured.
"""

import math
import time
from itertools import islice

from benchmarks.gpu.setting import Setting, Tell
from benchmarks.train_step import peak_gib, steady, synchronise
from timbre.stream import PairBatch
from timbre.train.loop import train_step
from timbre.train.run import Run
from timbre.train.stepping import StepMode

MODES: tuple[StepMode, StepMode] = ("eager", "graph")
# Of the loss, in float32 without TF32, over all steps of the parity case.
MOST_APART = 1e-4
# The mean losses at the end of the two curves may differ by so much.
CURVES_APART = 0.03


def parity(setting: Setting, tell: Tell) -> None:
    """200 steps from one start, one of them broken: the losses, and which steps were skipped.

    An earlier benchmark replayed a captured step three times and then compared it with an eager loss of
    before: each replay trains, so its 0.76 was no error of the graph. Here both sides take the same
    steps. A second eager run says how far two runs are apart anyway, where atomic additions have no
    order.
    """
    size = setting.size(8, 1.0)
    count = 4 if setting.quick else 200
    url = setting.speech_shards("wav")
    curves: dict[str, list[float]] = {}
    skips: dict[str, list[int]] = {}
    for name in ("eager", "eager again", "graph"):
        with setting.adversarial(url, "light", size, "fp32", step=name.split()[0]) as (
            run,
            batches,
        ):
            losses, norms = [], []
            for number, batch in enumerate(islice(batches, count)):
                if number == count // 2:
                    batch = batch._replace(bandwidth_hz=batch.bandwidth_hz * math.nan)
                metrics = train_step(run, batch)
                run.watch(metrics)
                losses.append(metrics["g/loss"].detach().clone())
                norms.append(metrics["g/grad_norm"].detach().clone())
            curves[name] = [float(loss) for loss in losses]
            skips[name] = [n for n, norm in enumerate(norms) if not bool(norm.isfinite())]
    expected = curves.pop("eager")
    apart = {
        name: max(
            abs(mine - theirs) / abs(theirs)
            for mine, theirs in zip(losses, expected, strict=True)
            if math.isfinite(theirs)
        )
        for name, losses in curves.items()
    }
    tell("steps", count, "")
    tell("steps skipped", len(skips["graph"]), "of one that is broken")
    for name, most in apart.items():
        tell(f"{name}: loss against eager", most, "of itself at most")
    if skips["graph"] != [count // 2] or skips["eager"] != skips["graph"]:
        raise RuntimeError(f"other steps were skipped: {skips}")
    if apart["graph"] > max(MOST_APART, 3 * apart["eager again"]):
        raise RuntimeError(f"the losses are too far apart: {apart}")


def step_speed(
    setting: Setting, tell: Tell, preset: str, precision: str, batch: int, seconds: float
) -> None:
    """A whole step in the adversarial phase, over and over on one batch, by either way."""
    size = setting.size(batch, seconds)
    url = setting.noise_shards(size)
    seconds_spent = {}
    for mode in MODES:
        with setting.adversarial(url, preset, size, precision, step=mode) as (run, batches):
            one = next(batches)

            def step(run: Run = run, one: PairBatch = one) -> None:
                run.watch(train_step(run, one))

            repeats = steady(step, setting.device, setting.quick)
            synchronise(setting.device)
            begun = time.perf_counter()
            for _ in range(repeats):
                step()
            host = time.perf_counter() - begun
            synchronise(setting.device)
            seconds_spent[mode] = (time.perf_counter() - begun) / repeats
            tell(f"{mode}: step", 1e3 * seconds_spent[mode], "ms")
            tell(f"{mode}: speed", size.batch * size.seconds / seconds_spent[mode], "x real time")
            # Near 100: the device waits for the host, which is too slow at telling it what to do.
            tell(
                f"{mode}: host busy", 100 * host / (seconds_spent[mode] * repeats), "% of the time"
            )
            if setting.on_gpu:
                tell(f"{mode}: peak memory", peak_gib(step), "GiB")
    tell("eager_to_graph", seconds_spent["eager"] / seconds_spent["graph"], "ratio")


def curves(setting: Setting, tell: Tell) -> None:
    """500 steps of training on speech by either way: time, and the losses at the end."""
    size = setting.size(32, 1.0)
    count = 4 if setting.quick else 500
    url = setting.speech_shards("wav")
    ends: dict[str, float] = {}
    for mode in MODES:
        with setting.adversarial(url, "light", size, "bf16", step=mode) as (run, batches):
            synchronise(setting.device)
            begun = time.perf_counter()
            losses = []
            for batch in islice(batches, count):
                metrics = train_step(run, batch)
                run.watch(metrics)
                losses.append(metrics["g/loss"].detach().clone())
            synchronise(setting.device)
            tell(f"{mode}: {count} steps", time.perf_counter() - begun, "s")
            last = [float(loss) for loss in losses[-max(count // 5, 1) :]]
            ends[mode] = sum(last) / len(last)
            tell(f"{mode}: loss of the last fifth", ends[mode], "")
    apart = abs(ends["graph"] / ends["eager"] - 1)
    tell("apart at the end", apart, "of the loss")
    if apart > CURVES_APART:
        raise RuntimeError(f"the curves end apart: {ends}")
