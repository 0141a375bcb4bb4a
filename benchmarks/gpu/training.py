"""Cases that train on the GPU: no waiting in a step, the whole command, precision, reading."""

import math
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from benchmarks.gpu.setting import PRECISIONS, Setting, Tell, allow_tf32
from benchmarks.train_step import clock, synchronise, to_waves
from tests.help.denoise_inputs import noisy_voice
from tests.help.made_shards import make_shards
from tests.help.moved_generators import NAMES, build
from timbre import config as configs
from timbre.audio import SAMPLE_RATE
from timbre.audio.metrics import log_spectral_distance
from timbre.shards import AudioFormat, DataSource, open_corpus
from timbre.stream import PairStream
from timbre.train.config import TrainConfig
from timbre.train.gan.gan import DTYPES
from timbre.train.loop import train, train_step
from timbre.train.run import open_run

PHASES = ("reconstruction", "discriminator alone", "adversarial")
# A measurement of reading ends after so many seconds.
READING_SECONDS = 4.0


def phased(setting: Setting, **says: Any) -> TrainConfig:
    """A config of one step an epoch: step 5 is the discriminator's first, and step 8 its first
    in the generator's loss."""
    folder = setting.folder / "phases"
    pairs, seconds = (1, 0.1) if setting.quick else (4, 1.0)
    if not folder.is_dir():
        make_shards(folder, [pairs], [1], seconds=seconds)
    tree: dict[str, Any] = {
        "data": [{"manifest": str(folder / "manifest.json")}],
        "steps": 12,
        "global_batch": pairs,
        "segment_seconds": seconds,
        "generator": {"size": "tiny"},
        "optimizer": {"warmup_steps": 2},
        "adversarial": {"discriminator_steps": 3, "ramp_steps": 2},
        "validation": {"perceptual_pairs": 0},
        "workers": 0 if setting.quick else 1,
        "log_every": 3,
        "log_gradients_every": 2,
        "validate_every": 12,
        "save_every": 12,
    }
    return configs.from_tree(TrainConfig, tree | says, "gpu")


def steps_without_a_sync(setting: Setting, tell: Tell, name: str, precision: str) -> None:
    """Steps of each phase while PyTorch forbids the host to wait for the device.

    The first of a phase only lists where it waits, in the next that is an error. Augmentation and
    counting are in them, and the shares in the gradient, but not reading.
    """
    config = phased(
        setting,
        run_dir=str(setting.folder / f"sync-{name}-{precision}"),
        precision=PRECISIONS[precision][0],
        generator={"name": name, "size": "tiny"},
        discriminator={"preset": "full" if setting.on_gpu and name == "spectral" else "light"},
        balancer={"enabled": name == "wave"},
        step="eager",
    )
    run = open_run(config)
    waits: dict[str, list[str]] = {phase: [] for phase in PHASES}
    done = dict.fromkeys(PHASES, 0)
    batches = run.batches()
    for step in range(config.steps):
        phase = PHASES[0 if step < 5 else 1 if step < 8 else 2]
        listing = done[phase] == 0 or waits[phase]
        batch = next(batches)
        run.gan.step = step
        with listed_syncs(setting, waits[phase]) if listing else forbidden_syncs(setting):
            try:
                run.watch(train_step(run, batch))
            except RuntimeError:
                waits[phase].append(traceback.format_exc())
                break
        done[phase] += 1
    run.close()
    for phase in PHASES:
        tell(f"{phase}: steps", done[phase], "")
        if setting.on_gpu:
            tell(f"{phase}: waits for the device", len(waits[phase]), "")
    faults = [f"{phase}: {fault}" for phase in PHASES for fault in waits[phase]]
    if faults:
        raise RuntimeError("the host waited for the device in a step:\n" + "\n".join(faults))
    if not all(done.values()):
        raise RuntimeError(f"only these steps were taken: {done}")


def loader_without_a_sync(setting: Setting, tell: Tell) -> None:
    """The loader's batches are those of the host, and reach the device without the host waiting."""
    config = phased(setting, run_dir=str(setting.folder / "loader"))
    run = open_run(config)
    stream = run.data.stream
    expected = list(islice(PairStream(stream.order.corpora, stream.config), 6))
    batches = run.batches()
    got = [next(batches)]
    with forbidden_syncs(setting):
        got += islice(batches, 5)
    same = 0
    for here, there in zip(expected, got, strict=True):
        assert there.degraded.device.type == there.bandwidth_hz.device.type == setting.device.type
        sides = ("degraded", "clean", "bandwidth_hz")
        same += all(getattr(here, s).equal(getattr(there, s).cpu()) for s in sides)
    run.close()
    tell("batches equal to the host's", same, f"of {len(expected)}")
    if same < len(expected):
        raise RuntimeError(f"{len(expected) - same} of {len(expected)} batches differ")


def whole_command(setting: Setting, tell: Tell) -> None:
    """`timbre train` through its three phases, with validation and checkpoint, and resumed."""
    for precision in ("bf16", "fp16"):
        run_dir = setting.folder / f"whole-{precision}"
        for steps in (12, 15):
            train(phased(setting, run_dir=str(run_dir), steps=steps, precision=precision))
        events = EventAccumulator(str(run_dir / "tensorboard"))
        events.Reload()
        for name in ("g/loss", "d/loss", "val/score", "g/skipped_steps", "d/skipped_steps"):
            last = events.Scalars(name)[-1]
            tell(f"{precision}: {name} at step {last.step}", last.value, "")
            assert last.step == 15 and math.isfinite(last.value), f"{name}: {last}"


def output_parity(setting: Setting, tell: Tell) -> None:
    """What a generator away from its start makes of noisy voices, against full float32."""
    count, seconds = (1, 0.1) if setting.quick else (8, 2.0)
    noisy = torch.stack([noisy_voice(round(seconds * SAMPLE_RATE), n) for n in range(count)])
    for name in NAMES:
        on_host = build(name, "tiny" if setting.quick else "small", moved=True).eval()
        with torch.no_grad():
            host = on_host(noisy[:, None])
            network, waves = on_host.to(setting.device), noisy[:, None].to(setting.device)
            outputs: dict[str, Tensor] = {}
            for precision, (told, tf32) in PRECISIONS.items():
                allow_tf32(tf32)
                dtype = DTYPES.get(told)
                with torch.autocast(setting.device.type, dtype, enabled=dtype is not None):
                    outputs[precision] = network(waves).float()
        for precision, output in outputs.items():
            tell_distance(tell, f"{name}, {precision}", output, outputs["fp32"])
        tell_distance(tell, f"{name}, fp32, device to CPU", outputs["fp32"].cpu(), host)


def trained_parity(setting: Setting, tell: Tell) -> None:
    """What the same few steps make of a generator in each precision, against full float32.

    The second float32 run is the yardstick: on a GPU two runs of one precision differ, too.
    """
    size = setting.size(16, 1.0)
    url, steps = setting.speech_shards("wav"), 2 if setting.quick else 20
    outputs: dict[str, Tensor] = {}
    for case in ("fp32", "fp32 again", "tf32", "bf16", "fp16"):
        precision = case.split()[0]
        with setting.adversarial(url, "light", size, precision) as (run, batches):
            held = next(batches)
            metrics: dict[str, Tensor] = {}
            for batch in islice(batches, steps):
                metrics = train_step(run, batch)
            degraded, clean, _ = to_waves(held, setting.device)
            with torch.no_grad(), run.gan.autocast(setting.device):
                outputs[case] = run.gan.generator(degraded).float()
            tell(f"{case}: loss at step {steps}", float(metrics["g/loss"].detach()), "")
        distance = log_spectral_distance(outputs[case][:, 0], clean[:, 0], 0, 24000, 24000.0)
        tell(f"{case}: LSD to clean", float(distance.nanmean()), "dB")
        tell_distance(tell, case, outputs[case], outputs["fp32"])


def tell_distance(tell: Tell, case: str, output: Tensor, reference: Tensor) -> None:
    """Tell how far ``(batch, 1, samples)`` is from what it should equal."""
    noise = (output - reference).double().square().sum()
    if noise > 0:
        ratio = reference.double().square().sum() / noise
        tell(f"{case}: signal to difference", float(10 * ratio.log10()), "dB")
    for low, high in ((0, 8000), (8000, 24000)):
        distance = log_spectral_distance(output[:, 0], reference[:, 0], low, high, 24000.0)
        tell(f"{case}: LSD {low // 1000}-{high // 1000} kHz", float(distance.nanmean()), "dB")


def data_wait(
    setting: Setting, tell: Tell, audio_format: AudioFormat, preset: str, workers: int
) -> None:
    """Steps on what is really read meanwhile, against steps on one batch, and reading alone."""
    url = setting.speech_shards(audio_format)
    corpus = open_corpus(DataSource(url), "train")
    size = setting.size(min(64, corpus.pairs), min(2.0, corpus.save_segment_seconds))
    most = 3 if setting.quick else 60
    workers = 1 if setting.quick else workers
    with setting.adversarial(url, preset, size, "bf16", workers=workers) as (run, batches):
        batch = next(batches)
        step = lambda: train_step(run, batch)  # noqa: E731
        clock(step, setting.device, 2)
        fixed = clock(step, setting.device, most // 10 or 1)
        for ahead in islice(batches, 0 if setting.quick else 2 * workers + 2):  # what waits already
            train_step(run, ahead)
        run.watch(train_step(run, next(batches)))
        run.log()
        waited, begun, steps = run.data.loader.waited_seconds, time.perf_counter(), 0
        while steps < most and time.perf_counter() - begun < READING_SECONDS:
            run.watch(train_step(run, next(batches)))
            steps += 1
            if steps % 20 == 0:
                run.log()
        synchronise(setting.device)
        seconds_spent = time.perf_counter() - begun
        waited = run.data.loader.waited_seconds - waited
        audio = size.batch * size.seconds
        tell("speed", steps * audio / seconds_spent, "x real time")
        tell("step on one batch", 1e3 * fixed, "ms")
        tell("step while reading", 1e3 * seconds_spent / steps, "ms")
        tell("host waits for data", 100 * waited / seconds_spent, "% of the time")
        tell("step longer through reading", 100 * (seconds_spent / steps / fixed - 1), "%")
        begun = time.perf_counter()
        count = sum(1 for _ in islice(batches, 3 if setting.quick else 2 * workers + 20))
        seconds_spent = time.perf_counter() - begun
        tell("reading alone", count * audio / seconds_spent, "x real time")
        tell("batch", size.batch, f"pairs of {size.seconds:g} s, {workers} processes read")


@contextmanager
def forbidden_syncs(setting: Setting) -> Iterator[None]:
    """Make the host's waiting for the device an error."""
    if not setting.on_gpu:
        yield
        return
    synchronise(setting.device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def listed_syncs(setting: Setting, places: list[str]) -> Iterator[None]:
    """Add where the host waits for the device to a list."""
    if not setting.on_gpu:
        yield
        return

    def note(message: Warning | str, *_: Any, **__: Any) -> None:
        if "called a synchronizing CUDA operation" in str(message):
            places.append("".join(traceback.format_stack(limit=12)[:-1]))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        synchronise(setting.device)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
