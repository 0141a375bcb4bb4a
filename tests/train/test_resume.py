"""An interrupted run resumes exactly, wherever it ended."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.help.made_shards import make_shards
from tests.train.runs import ADVERSARIAL, WHOLE_RUN, check_same, config, scalars
from timbre import config as configs
from timbre.models import checkpoint
from timbre.train.loop import train, train_step
from timbre.train.run import open_run


@pytest.mark.parametrize("name", ["spectral", "wave"])
def test_an_interrupted_run_ends_exactly_like_an_uninterrupted_one(
    noise_url: str, tmp_path: Path, name: str
) -> None:
    overrides = [
        f"generator.name={name}",
        ADVERSARIAL,
        "steps=26",
        "save_every=23",
        "validate_every=23",
        f"data_changes=[{{from_step: 25, data: [{{manifest: {noise_url}}}]}}]",
    ]
    train(config(noise_url, tmp_path / "whole", *overrides))
    whole = checkpoint.load(str(tmp_path / "whole/checkpoints/step-00000026.pt"))
    # Go on from the middle of the whole run, in the adversarial phase and inside an epoch.
    (tmp_path / "cut/checkpoints").mkdir(parents=True)
    middle = "checkpoints/step-00000023.pt"
    (tmp_path / "cut" / middle).write_bytes((tmp_path / "whole" / middle).read_bytes())
    train(config(noise_url, tmp_path / "cut", *overrides, "workers=1"))
    state = checkpoint.load(str(tmp_path / "cut/checkpoints/step-00000026.pt"))
    check_same(whole["gan"], state["gan"])
    check_same(whole["stream"], state["stream"])


@pytest.mark.parametrize("name", ["spectral", "wave"])
def test_a_run_that_hears_the_noisy_side_resumes_exactly_and_learns_from_it(
    tmp_path: Path, name: str
) -> None:
    url = make_shards(tmp_path / "shards", [4, 4], [2], noisy=True)
    overrides = [f"generator.name={name}", "generator.noisy_input=true", "steps=4", "save_every=2"]
    overrides.append("validation={perceptual_pairs: 0, shown_pairs: 0}")
    (tmp_path / "cut/checkpoints").mkdir(parents=True)
    train(config(url, tmp_path / "whole", *overrides))
    middle = "checkpoints/step-00000002.pt"
    shutil.copy(tmp_path / "whole" / middle, tmp_path / "cut" / middle)
    train(config(url, tmp_path / "cut", *overrides, "workers=1"))
    train(config(url, tmp_path / "deaf", *overrides, "augment.noisy_dropout=1"))
    whole, resumption, deaf = (
        checkpoint.load(str(tmp_path / run_dir / "checkpoints/step-00000004.pt"))["gan"]
        for run_dir in ("whole", "cut", "deaf")
    )
    check_same(whole, resumption)
    last = {"spectral": "head.weight", "wave": "last.convolution.weight"}[name]
    assert not whole["generator"][last].equal(deaf["generator"][last])


def test_a_killed_run_goes_on_to_the_very_losses_of_an_uninterrupted_one(
    pair_url: str, whole_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(configs.dump(config(pair_url, tmp_path, *WHOLE_RUN)))
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
    whole, after_kill = scalars(whole_run), scalars(tmp_path)
    for tag in ("g/loss", "g/grad_norm", "g/adversarial", "d/loss", "d/accuracy", "val/score"):
        curve = [(event.step, event.value) for event in whole.Scalars(tag)]
        assert curve == [(event.step, event.value) for event in after_kill.Scalars(tag)], tag
    states = [
        checkpoint.load(str(run_dir / "checkpoints/step-00000010.pt"))
        for run_dir in (whole_run, tmp_path)
    ]
    for part in ("gan", "stream", "alarms"):
        check_same(states[0][part], states[1][part])


def test_a_second_and_a_third_resume_in_one_epoch_are_exact(noise_url: str, tmp_path: Path) -> None:
    overrides = ["steps=4", "save_every=1", "keep_checkpoints=9", "balancer.enabled=true"]
    train(config(noise_url, tmp_path / "whole", *overrides))
    for step in (1, 2, 3):
        run = open_run(config(noise_url, tmp_path / "cut", *overrides))
        assert run.gan.step == step - 1
        run.watch(train_step(run, next(run.batches())))
        assert run.save()
        run.close()
    train(config(noise_url, tmp_path / "cut", *overrides))
    one, other = (
        checkpoint.load(str(tmp_path / run_dir / "checkpoints/step-00000004.pt"))
        for run_dir in ("whole", "cut")
    )
    assert one["stream"]["epoch"] == 0
    for part in ("gan", "stream", "balancer"):
        check_same(one[part], other[part], part)


def test_a_damaged_last_checkpoint_is_told_and_the_run_goes_on_from_the_one_before(
    pair_url: str, whole_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole_run / "checkpoints", tmp_path / "checkpoints")
    last = tmp_path / "checkpoints/step-00000010.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 16
    last.write_bytes(data)
    train(config(pair_url, tmp_path, *WHOLE_RUN))
    output = capfd.readouterr().err
    assert f"warning: {last}: damaged" in output and "going back to the one before" in output
    whole, after_damage = (
        checkpoint.load(str(run_dir / "checkpoints/step-00000010.pt"))
        for run_dir in (whole_run, tmp_path)
    )
    check_same(whole["gan"], after_damage["gan"])
