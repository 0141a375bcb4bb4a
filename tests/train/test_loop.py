"""Training: the commands, resuming, and what a step does."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils._python_dispatch import TorchDispatchMode

from tests.help.made_shards import make_shards
from timbre import cli
from timbre import config as configs
from timbre.audio.metrics import log_spectral_distance
from timbre.errors import CheckpointError, ConfigError, ShardError, WorkError
from timbre.models import checkpoint
from timbre.shards.whole_pairs import load_pair
from timbre.train import checkpoints
from timbre.train.command import main
from timbre.train.config import TrainConfig
from timbre.train.gan.schedule import cosine_share
from timbre.train.loop import train, train_step
from timbre.train.run import Run, open_run

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "configs/train_tiny.yaml")
QUICK = (
    "segment_seconds=0.2",
    "steps=8",
    "global_batch=2",
    "optimizer.warmup_steps=2",
    "log_every=2",
    "validate_every=4",
    "save_every=4",
    "workers=0",
)
# 4 steps an epoch: the discriminator learns from step 20 on.
ADVERSARIAL = "adversarial={discriminator_steps: 2, ramp_steps: 2}"
FINISHED = ("steps=10", "log_every=1", "save_every=2", "validate_every=10", ADVERSARIAL)


@pytest.fixture(scope="module")
def noise_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [4, 4], [2])


@pytest.fixture(scope="module")
def pair_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One step an epoch: the discriminator learns from step 5 on."""
    return make_shards(tmp_path_factory.mktemp("pair"), [2], [1])


def config(url: str, run_dir: Path, *overrides: str) -> TrainConfig:
    given = [f"data=[{{manifest: {url}}}]", f"run_dir={run_dir}", *QUICK, *overrides]
    return configs.load(TrainConfig, TINY, given)


def scalars(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 9, "audio": 9})
    events.Reload()
    return events


def check_same(one: Any, other: Any, where: str = "state") -> None:
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, rtol=0, atol=0, msg=lambda m: f"{where}: {m}")
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            check_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            check_same(a, b, f"{where}.{number}")
    else:
        assert one == other, where


@pytest.mark.parametrize("name", ["spectral", "wave"])
def test_an_interrupted_run_ends_exactly_like_an_uninterrupted_one(
    noise_url: str, tmp_path: Path, name: str
) -> None:
    given = [
        f"generator.name={name}",
        ADVERSARIAL,
        "steps=26",
        "save_every=23",
        "validate_every=23",
    ]
    train(config(noise_url, tmp_path / "whole", *given))
    whole = checkpoint.load(str(tmp_path / "whole/checkpoints/step-00000026.pt"))
    # Go on from the middle of the whole run, in the adversarial phase and inside an epoch.
    (tmp_path / "cut/checkpoints").mkdir(parents=True)
    middle = "checkpoints/step-00000023.pt"
    (tmp_path / "cut" / middle).write_bytes((tmp_path / "whole" / middle).read_bytes())
    train(config(noise_url, tmp_path / "cut", *given, "workers=1"))
    resumed = checkpoint.load(str(tmp_path / "cut/checkpoints/step-00000026.pt"))
    check_same(whole["gan"], resumed["gan"])
    check_same(whole["stream"], resumed["stream"])


@pytest.mark.parametrize("name", ["spectral", "wave"])
def test_a_run_that_hears_the_noisy_side_resumes_exactly_and_learns_from_it(
    tmp_path: Path, name: str
) -> None:
    url = make_shards(tmp_path / "shards", [4, 4], [2], noisy=True)
    given = [f"generator.name={name}", "generator.noisy_input=true", "steps=4", "save_every=2"]
    given.append("validation={perceptual_pairs: 0, shown_pairs: 0}")
    (tmp_path / "cut/checkpoints").mkdir(parents=True)
    train(config(url, tmp_path / "whole", *given))
    middle = "checkpoints/step-00000002.pt"
    shutil.copy(tmp_path / "whole" / middle, tmp_path / "cut" / middle)
    train(config(url, tmp_path / "cut", *given, "workers=1"))
    train(config(url, tmp_path / "deaf", *given, "augment.noisy_dropout=1"))
    whole, cut, deaf = (
        checkpoint.load(str(tmp_path / run_dir / "checkpoints/step-00000004.pt"))["gan"]
        for run_dir in ("whole", "cut", "deaf")
    )
    check_same(whole, cut)
    last = {"spectral": "head.weight", "wave": "last.convolution.weight"}[name]
    assert not whole["generator"][last].equal(deaf["generator"][last])


def test_a_run_leaves_what_its_user_looks_for(noise_url: str, tmp_path: Path) -> None:
    assert main([TINY, f"data=[{{manifest: {noise_url}}}]", f"run_dir={tmp_path}", *QUICK]) == 0
    shown = scalars(tmp_path)
    tags = shown.Tags()
    assert {
        "g/loss",
        "g/mel",
        "g/waveform",
        "g/learning_rate",
        "data/epoch",
        "data/wait_seconds",
        "data/bytes",
        "data/requests",
        "data/retries",
        "data/bad_pairs",
        "data/cache_hits",
        "data/cache_fetches",
        "val/score",
        "val/si_sdr",
    } <= set(tags["scalars"])
    key = "val-000000-0000"
    assert {f"pair/{key}/{side}" for side in ("degraded", "restored", "clean")} <= set(
        tags["audio"]
    )
    assert f"pair/{key}/degraded_restored_clean" in tags["images"]
    assert [event.step for event in shown.Scalars("g/loss")] == [2, 4, 6, 8]
    assert shown.Scalars("data/epoch")[-1].value == pytest.approx(2.0)
    read = [event.value for event in shown.Scalars("data/bytes")]
    assert read == sorted(read) and read[0] > 0
    assert all(0 < event.value < 60 for event in shown.Scalars("data/wait_seconds"))
    saved = configs.load(TrainConfig, tmp_path / "config.yaml")
    assert saved == config(noise_url, tmp_path)
    state = checkpoint.load(checkpoints.latest(str(tmp_path)) or "")
    assert configs.from_tree(TrainConfig, state["config"], "checkpoint") == saved
    checkpoint.load_generator(str(tmp_path / "best.safetensors"))


@pytest.fixture(scope="module")
def finished(pair_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps, adversarial from the sixth on, saved at every second."""
    run_dir = tmp_path_factory.mktemp("finished")
    train(config(pair_url, run_dir, *FINISHED))
    return run_dir


def test_a_finished_run_says_so_and_is_left_as_it_is(
    pair_url: str, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "checkpoints").iterdir()}
    words = [f"data=[{{manifest: {pair_url}}}]", f"run_dir={finished}", *QUICK, *FINISHED]
    assert main([TINY, *words]) == 0
    assert "finished at step 10; raise steps" in capfd.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in (finished / "checkpoints").iterdir()} == before


def test_a_killed_run_goes_on_to_the_very_losses_of_an_uninterrupted_one(
    pair_url: str, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(configs.dump(config(pair_url, tmp_path, *FINISHED)))
    words = [sys.executable, "-m", "timbre.train", f"{tmp_path}/run.yaml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as many as here: they split sums
    process = subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "checkpoints/step-00000006.pt").exists():
            assert process.poll() is None
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "checkpoints/step-00000010.pt").exists()
    subprocess.run(words, cwd=ROOT, env=environment, check=True, timeout=120)
    whole, resumed = scalars(finished), scalars(tmp_path)
    for tag in ("g/loss", "g/grad_norm", "g/adversarial", "d/loss", "d/accuracy", "val/score"):
        curve = [(event.step, event.value) for event in whole.Scalars(tag)]
        assert curve == [(event.step, event.value) for event in resumed.Scalars(tag)], tag
    states = [
        checkpoint.load(str(run_dir / "checkpoints/step-00000010.pt"))
        for run_dir in (finished, tmp_path)
    ]
    for part in ("gan", "stream", "alarms"):
        check_same(states[0][part], states[1][part])


def test_a_second_and_a_third_resume_in_one_epoch_are_exact(noise_url: str, tmp_path: Path) -> None:
    given = ["steps=4", "save_every=1", "keep_checkpoints=9", "balancer.enabled=true"]
    train(config(noise_url, tmp_path / "whole", *given))
    for step in (1, 2, 3):
        run = open_run(config(noise_url, tmp_path / "cut", *given))
        assert run.gan.step == step - 1
        run.watch(train_step(run, next(run.batches())))
        assert run.save()
        run.close()
    train(config(noise_url, tmp_path / "cut", *given))
    one, other = (
        checkpoint.load(str(tmp_path / run_dir / "checkpoints/step-00000004.pt"))
        for run_dir in ("whole", "cut")
    )
    assert one["stream"]["epoch"] == 0
    for part in ("gan", "stream", "balancer"):
        check_same(one[part], other[part], part)


def test_a_damaged_last_checkpoint_is_told_and_the_run_goes_on_from_the_one_before(
    pair_url: str, finished: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "checkpoints", tmp_path / "checkpoints")
    last = tmp_path / "checkpoints/step-00000010.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 16
    last.write_bytes(data)
    train(config(pair_url, tmp_path, *FINISHED))
    told = capfd.readouterr().err
    assert f"warning: {last}: damaged" in told and "going back to the one before" in told
    whole, repaired = (
        checkpoint.load(str(run_dir / "checkpoints/step-00000010.pt"))
        for run_dir in (finished, tmp_path)
    )
    check_same(whole["gan"], repaired["gan"])


def test_fine_tuning_takes_over_networks_average_and_moments_but_not_the_step(
    pair_url: str, finished: Path, tmp_path: Path
) -> None:
    url = finished / "checkpoints/step-00000010.pt"
    given = [f"init_from={url}", "steps=3", "save_every=3", "optimizer.learning_rate=1e-4"]
    given.append(ADVERSARIAL)
    run = open_run(config(pair_url, tmp_path, *given))
    saved = checkpoint.load(str(url))["gan"]
    now = run.gan.state_dict()
    assert now["step"] == 0 and saved["step"] == 10
    for part in ("generator", "average", "discriminator"):
        check_same(now[part], saved[part], part)
    for part in ("generator_optimizer", "discriminator_optimizer"):
        check_same(now[part]["state"], saved[part]["state"], part)
    # The discriminator has learned: there is nothing to wait for.
    assert run.adversarial_start == 0
    metrics = train_step(run, next(run.batches()))
    assert "d/loss" in metrics
    rate = run.gan.generator_descent.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(1e-4 / 2)  # the new run's, in its warm-up of two steps
    run.save()
    run.close()
    # A run with a checkpoint of its own goes on from that.
    resumed = open_run(config(pair_url, tmp_path, *given[1:], "init_from=gone.pt"))
    assert (resumed.gan.step, resumed.adversarial_start) == (1, 0)
    resumed.close()


def test_fine_tuning_from_a_generator_alone_starts_with_its_weights(
    pair_url: str, finished: Path, tmp_path: Path
) -> None:
    url = str(finished / "best.safetensors")
    run = open_run(config(pair_url, tmp_path, f"init_from={url}", ADVERSARIAL))
    expected = checkpoint.load_generator(url)[0].state_dict()
    check_same(dict(run.gan.state_dict()["generator"]), dict(expected))
    check_same(dict(run.gan.state_dict()["average"]), dict(expected))
    assert run.adversarial_start == 5 and not run.gan.state_dict()["generator_optimizer"]["state"]
    run.close()


@pytest.mark.parametrize("name", ["best.safetensors", "checkpoints/step-00000010.pt"])
def test_fine_tuning_may_add_limits_which_have_no_weights_and_resuming_may_not(
    pair_url: str, finished: Path, tmp_path: Path, name: str
) -> None:
    lift, url = "generator.max_lift_db=12", f"init_from={finished}/{name}"
    run = open_run(config(pair_url, tmp_path, url, lift))
    expected = checkpoint.load_generator(f"{finished}/{name}")[0].state_dict()
    check_same(dict(run.gan.state_dict()["average"]), dict(expected))
    assert run.gan.generator.max_lift_db == run.gan.average.max_lift_db == 12
    run.save()
    run.close()
    with pytest.raises(CheckpointError, match=r"max_lift_db was 12.0, the config says None"):
        open_run(config(pair_url, tmp_path))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["{run}/checkpoints/step-00000010.pt", "generator.size=small"],
         r"step-00000010\.pt: .* generator\.size was 'tiny', the config says 'small'"),
        (["{run}/checkpoints/step-00000010.pt", "discriminator.preset=full"],
         r"discriminator\.preset was 'light', the config says 'full'"),
        (["{run}/best.safetensors", "generator.causal=true"],
         r"best\.safetensors: .* generator\.causal was False, the config says True"),
        (["{run}/config.yaml"], r"config\.yaml: not a generator of timbre"),
    ],
)  # fmt: skip
def test_fine_tuning_from_something_else_is_refused_before_any_work(
    pair_url: str, finished: Path, tmp_path: Path, given: list[str], told: str
) -> None:
    url, *overrides = given
    with pytest.raises(CheckpointError, match=told):
        train(
            config(pair_url, tmp_path / "run", f"init_from={url.format(run=finished)}", *overrides)
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("best", ["false", "true"])
def test_only_the_last_checkpoints_and_the_best_are_kept(
    noise_url: str, tmp_path: Path, best: str
) -> None:
    given = ["save_every=2", "keep_checkpoints=1", f"keep_best_state={best}"]
    train(config(noise_url, tmp_path, *given))
    state = checkpoint.load(str(checkpoints.latest(str(tmp_path))))
    assert state["best_step"] == 4  # on noise the identity is hard to beat
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("*.pt")) == [
        *(["step-00000004.pt"] if best == "true" else []),
        "step-00000008.pt",
    ]


def test_a_compiled_run_trains_alike_and_its_checkpoints_are_anybodys(
    pair_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Traced and differentiated as always, but run by PyTorch: compiling C++ takes minutes.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    given = ["steps=3", "validate_every=2", "save_every=3"]
    plain = config(pair_url, tmp_path / "plain", *given)
    compiled = dataclasses.replace(plain, compile=True, run_dir=str(tmp_path / "compiled"))
    states = []
    for one in (plain, compiled):
        train(one)
        states.append(checkpoint.load(str(checkpoints.latest(one.run_dir)))["gan"])
    for part in ("generator", "average", "discriminator"):
        assert list(states[0][part]) == list(states[1][part])
        for name, tensor in states[0][part].items():
            torch.testing.assert_close(tensor, states[1][part][name], rtol=1e-3, atol=1e-3)
    assert not all(
        tensor.equal(states[1]["average"][name]) for name, tensor in states[1]["generator"].items()
    )
    # What one wrote the other goes on from.
    train(dataclasses.replace(compiled, compile=False, steps=4))


def test_training_repairs_real_damage_of_the_denoiser(manifest_url: str, tmp_path: Path) -> None:
    """Twenty steps on one batch of speech that DeepFilterNet3 has damaged lower every main term."""
    run = open_run(config(manifest_url, tmp_path, "segment_seconds=1", "steps=20"))
    batch = next(run.batches())
    logged = [train_step(run, batch) for _ in range(20)]
    run.close()
    for name in ("g/loss", "g/mel", "g/spectrum"):
        assert logged[-1][name].item() < 0.93 * logged[0][name].item(), name


def test_the_discriminator_learns_first_and_weighs_in_later(noise_url: str, tmp_path: Path) -> None:
    run = open_run(config(noise_url, tmp_path, "steps=26", ADVERSARIAL))
    before = [p.detach().clone() for p in run.gan.discriminator.parameters()]
    logged: list[dict[str, torch.Tensor]] = []
    rates: list[float] = []
    for batch in run.batches():
        logged.append(train_step(run, batch))
        rates.append(run.gan.discriminator_descent.optimizer.param_groups[0]["lr"])
        if run.gan.step == 20:
            check_same(before, list(run.gan.discriminator.parameters()))
    run.close()
    # A schedule of its own, from its own start on: a warm-up of two steps, then down to the end.
    peak = run.config.optimizer.discriminator_learning_rate
    expected = [peak * cosine_share(n, 2, 6, run.config.optimizer.final_share) for n in range(6)]
    assert rates[20:] == pytest.approx(expected) and max(rates) == peak
    assert [n for n, metrics in enumerate(logged) if "d/loss" in metrics] == list(range(20, 26))
    assert [n for n, metrics in enumerate(logged) if "g/adversarial" in metrics] == list(
        range(22, 26)
    )
    assert not all(
        a.equal(b) for a, b in zip(before, run.gan.discriminator.parameters(), strict=True)
    )
    # Taught nothing by the generator's steps, it still takes gradients of its own.
    assert all(p.requires_grad for p in run.gan.discriminator.parameters())


@pytest.fixture(scope="module")
def in_fp32(pair_url: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, torch.Tensor]:
    return trained(pair_url, tmp_path_factory.mktemp("fp32"), "precision=fp32")


def trained(url: str, run_dir: Path, *overrides: str) -> tuple[Run, torch.Tensor]:
    """A run after ten steps, half of them adversarial, and what it makes of a pair it has not seen."""
    # At a high rate two runs part whatever the precision.
    slowly = ["steps=10", "optimizer.learning_rate=2e-4", ADVERSARIAL]
    run = open_run(config(url, run_dir, *slowly, *overrides))
    for batch in run.batches():
        run.watch(train_step(run, batch))
    run.close()
    pair = load_pair(run.validation.pairs[0], torch.device("cpu"))
    with torch.inference_mode(), run.gan.autocast(torch.device("cpu")):
        restored: torch.Tensor = run.gan.generator(pair.degraded)[:, 0]
    return run, restored


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_precision_trains_to_the_spectra_of_fp32(
    pair_url: str, tmp_path: Path, in_fp32: tuple[Run, torch.Tensor], precision: str
) -> None:
    run, restored = trained(pair_url, tmp_path, f"precision={precision}")
    expected = in_fp32[1]
    for low, high in [(0, 8000), (8000, 24000)]:
        distance = log_spectral_distance(restored, expected, low, high, torch.tensor([24000.0]))
        # They moved by 0.6 dB; with the head under autocast the distance is 0.025 and more.
        assert float(distance) < 0.015, (low, high)
    assert all(
        p.dtype == torch.float32 and p.isfinite().all() for p in run.gan.generator.parameters()
    )
    descents = [run.gan.generator_descent, run.gan.discriminator_descent]
    scalers = [descent.scaler for descent in descents]
    assert scalers[0] is not scalers[1]
    if precision == "fp16":  # both scales have been at work
        assert all(scaler.state_dict()["_growth_tracker"] > 0 for scaler in scalers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_warning_to_the_whole_process_group_saves_and_ends_the_run(
    noise_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    run = config(
        noise_url,
        tmp_path,
        "steps=100000",
        "workers=1",
        "optimizer.warmup_steps=9",
        "validate_every=99999",
        "save_every=99999",
    )
    (tmp_path / "run.yaml").write_text(configs.dump(run))
    words = [sys.executable, "-m", "timbre.train", f"{tmp_path}/run.yaml"]
    process = subprocess.Popen(
        words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    events = tmp_path / "tensorboard"
    try:
        while not (events.exists() and any(path.stat().st_size > 300 for path in events.iterdir())):
            assert process.poll() is None, process.stderr and process.stderr.read()
        os.killpg(process.pid, number)  # as schedulers do: the reading processes get it too
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
    (saved,) = (tmp_path / "checkpoints").glob("*.pt")
    step = int(re.sub(r"\D", "", saved.name))
    assert 0 < step < 100000
    assert checkpoint.load(str(saved))["gan"]["step"] == step
    assert process.stderr is not None
    assert f"interrupted: saved at step {step}; the same command continues" in process.stderr.read()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["segment_seconds=0.5"], r"segment_seconds 0\.5 .* save_segment_seconds 0\.25"),
        (["adversarial.start_step=7"], r"start_step 7: expected at least 20, 5 epochs of 4 steps"),
        (["global_batch=100"], "global_batch 100 is larger than an epoch of 8 pairs"),
        (
            ["generator.noisy_input=true"],
            r"noisy_input true: .*/manifest\.json: .* no noisy side; .* prep with store_noisy: true",
        ),
    ],
)
def test_contradictions_with_the_data_are_refused_before_any_work(
    noise_url: str, tmp_path: Path, overrides: Sequence[str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        train(config(noise_url, tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_architecture_is_not_continued(noise_url: str, tmp_path: Path) -> None:
    train(config(noise_url, tmp_path))
    with pytest.raises(
        CheckpointError,
        match=r"another architecture: generator.name was 'spectral', the config says 'wave'",
    ):
        train(config(noise_url, tmp_path, "generator.name=wave", "steps=9"))


def test_a_run_is_continued_in_another_precision(noise_url: str, tmp_path: Path) -> None:
    for precision, steps in [("fp32", 8), ("fp16", 9), ("bf16", 10)]:
        train(config(noise_url, tmp_path, f"precision={precision}", f"steps={steps}"))
    assert checkpoint.load(str(checkpoints.latest(str(tmp_path))))["gan"]["step"] == 10


def test_a_run_without_finite_gradients_stops_and_nothing_broken_is_saved(
    noise_url: str, tmp_path: Path
) -> None:
    train(config(noise_url, tmp_path))
    broken = ["optimizer.learning_rate=1e30", "max_skipped_steps=6", "steps=40"]
    with pytest.raises(WorkError, match=r"step 16: .* not finite for 7 steps in a row"):
        train(config(noise_url, tmp_path, *broken))
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.pt")] == [
        "step-00000004.pt",
        "step-00000008.pt",
    ]
    with pytest.raises(WorkError, match="step 12: not saved, for the loss is not finite"):
        train(config(noise_url, tmp_path, *broken, "steps=12"))


def test_one_bad_batch_is_skipped_counted_and_forgotten(
    pair_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = open_run(config(pair_url, tmp_path, "steps=10", ADVERSARIAL))
    for batch in run.batches():
        bad = run.gan.step in (2, 8)
        before = [p.detach().clone() for p in run.gan.generator.parameters()]
        degraded = batch.degraded * float("nan") if bad else batch.degraded
        run.watch(train_step(run, batch._replace(degraded=degraded)))
        same = [p.equal(q) for p, q in zip(before, run.gan.generator.parameters(), strict=True)]
        assert all(same) == bad
    run.log()
    run.close()
    shown = scalars(tmp_path)
    assert [shown.Scalars(f"{n}/skipped_steps")[-1].value for n in "gd"] == [2, 1]
    assert np.isfinite(shown.Scalars("g/loss")[-1].value)
    assert "2 steps of the generator skipped" in capfd.readouterr().err


@pytest.mark.parametrize("balance", ["false", "true"])
def test_a_step_never_waits_for_the_device(pair_url: str, tmp_path: Path, balance: str) -> None:
    """No value of a tensor becomes a Python number, except what lies on the host anyway."""
    given = [f"balancer.enabled={balance}", "steps=10", "log_gradients_every=1", ADVERSARIAL]
    run = open_run(config(pair_url, tmp_path, *given))
    fetched: list[str] = []
    hosts: list[torch.Tensor] = []

    def counted(name: str) -> Any:
        original = getattr(torch.Tensor, name)

        def method(tensor: torch.Tensor, *given: Any, **named: Any) -> Any:
            if not any(tensor is host for host in hosts):
                fetched.append(name)
            return original(tensor, *given, **named)

        return method

    with pytest.MonkeyPatch.context() as patch, ScalarReads(fetched):
        batches = run.batches()
        for name in ("item", "cpu", "tolist", "numpy", "__bool__", "__float__", "__int__"):
            patch.setattr(torch.Tensor, name, counted(name))
        for _ in range(10):
            fetched_before = len(fetched)
            batch = next(batches)
            del fetched[fetched_before:]  # reading is the host's
            hosts[:] = [batch.positions]
            run.watch(train_step(run, batch))
        assert run.gan.step == 10
        assert fetched == []
        assert float(run.meter.sums["g/loss"][0]) > 0  # what is caught: a read
        assert set(fetched) == {"__float__", "aten._local_scalar_dense.default"}
    run.close()


class ScalarReads(TorchDispatchMode):
    """Appends to a list whenever a scalar is read from the device."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.found.append(str(function))
        return function(*given, **(named or {}))


@pytest.mark.parametrize("balance", ["false", "true"])
def test_each_terms_share_in_the_gradient_is_logged(
    pair_url: str, tmp_path: Path, balance: str
) -> None:
    given = [f"balancer.enabled={balance}", "log_gradients_every=9", "steps=10", ADVERSARIAL]
    train(config(pair_url, tmp_path, *given, "loss.mel=3", "loss.spectrum=1"))
    shown = scalars(tmp_path)
    tags = [tag for tag in shown.Tags()["scalars"] if tag.startswith("g/gradient_share/")]
    assert len(tags) == 6
    points = {tag: {e.step: e.value for e in shown.Scalars(tag)} for tag in tags}
    assert {tag.rpartition("/")[2] for tag in tags if 2 in points[tag]} == {
        "mel",
        "spectrum",
        "waveform",
        "silence",
    }
    assert all(10 in values for values in points.values())
    for step in (2, 10):
        found = [values[step] for values in points.values() if step in values]
        assert sum(found) == pytest.approx(1.0, abs=1e-4)
    first = points["g/gradient_share/mel"][2]
    if (
        balance == "true"
    ):  # exact where the average is of one step; what has no gradient has no share
        weights = {"mel": 3, "spectrum": 1, "waveform": 10, "silence": 2}
        has = {name for name in weights if points[f"g/gradient_share/{name}"][2] > 0}
        assert {"mel", "spectrum", "waveform"} <= has
        assert first == pytest.approx(3 / sum(weights[name] for name in has), rel=1e-3)


def test_a_run_is_not_continued_on_changed_data(noise_url: str, tmp_path: Path) -> None:
    train(config(noise_url, tmp_path / "run"))
    other = make_shards(tmp_path / "other", [4, 5], [2])
    with pytest.raises(ConfigError, match="manifests"):
        train(config(other, tmp_path / "run", "steps=9"))


def test_too_many_unreadable_pairs_end_the_run_with_their_name(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4, 4], [2])
    (tmp_path / "shards/train/shard-000001.tar").unlink()
    with pytest.raises(
        ShardError, match=r"max_bad_fraction 0\.02; for example .*shard-000001\.tar"
    ):
        train(config(url, tmp_path / "run", "steps=40"))


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (["{tmp}/none.yaml"], "none.yaml", 2),
        ([TINY, "data=[{{manifest: {tmp}/none/manifest.json}}]"], "none/manifest.json", 1),
        ([TINY, "stpes=3", "precision=fp8", "segment_seconds=-1"], "did you mean 'steps'", 2),
    ],
)
def test_bad_input_gets_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str, code: int
) -> None:
    words = [word.format(tmp=tmp_path) for word in arguments] + [f"run_dir={tmp_path}/run"] * (
        len(arguments) > 1
    )
    assert cli.main(["train", *words]) == code
    error = capsys.readouterr().err
    assert error.count("timbre: error:") == 1 and told in error and "Traceback" not in error
    assert not (tmp_path / "run").exists()
