"""The files of a run, and its end."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.train.runs import QUICK, TINY, WHOLE_RUN, config, scalars
from timbre import config as configs
from timbre.models import checkpoint
from timbre.train import checkpoints
from timbre.train.command import main
from timbre.train.config import TrainConfig
from timbre.train.loop import train


def test_a_run_leaves_what_its_user_looks_for(noise_url: str, tmp_path: Path) -> None:
    assert main([TINY, f"data=[{{manifest: {noise_url}}}]", f"run_dir={tmp_path}", *QUICK]) == 0
    events = scalars(tmp_path)
    tags = events.Tags()
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
    assert [event.step for event in events.Scalars("g/loss")] == [2, 4, 6, 8]
    assert events.Scalars("data/epoch")[-1].value == pytest.approx(2.0)
    bytes_read = [event.value for event in events.Scalars("data/bytes")]
    assert bytes_read == sorted(bytes_read) and bytes_read[0] > 0
    assert all(0 < event.value < 60 for event in events.Scalars("data/wait_seconds"))
    dump = configs.load(TrainConfig, tmp_path / "config.yaml")
    assert dump == config(noise_url, tmp_path)
    state = checkpoint.load(checkpoints.latest(str(tmp_path)) or "")
    assert configs.from_tree(TrainConfig, state["config"], "checkpoint") == dump
    checkpoint.load_generator(str(tmp_path / "best.safetensors"))


def test_a_finished_run_says_so_and_is_left_as_it_is(
    pair_url: str, whole_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole_run / "checkpoints").iterdir()}
    words = [f"data=[{{manifest: {pair_url}}}]", f"run_dir={whole_run}", *QUICK, *WHOLE_RUN]
    assert main([TINY, *words]) == 0
    assert "finished at step 10; raise steps" in capfd.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in (whole_run / "checkpoints").iterdir()} == before


@pytest.mark.parametrize("best", ["false", "true"])
def test_only_the_last_checkpoints_and_the_best_are_kept(
    noise_url: str, tmp_path: Path, best: str
) -> None:
    overrides = ["save_every=2", "keep_checkpoints=1", f"keep_best_state={best}"]
    train(config(noise_url, tmp_path, *overrides))
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
    overrides = ["steps=3", "validate_every=2", "save_every=3"]
    plain = config(pair_url, tmp_path / "plain", *overrides)
    fast = dataclasses.replace(plain, compile=True, run_dir=str(tmp_path / "compiled"))
    states = []
    for one in (plain, fast):
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
    train(dataclasses.replace(fast, compile=False, steps=4))


def test_a_warning_to_the_whole_process_group_saves_and_ends_the_run(
    noise_url: str, tmp_path: Path
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
    log = tmp_path / "logs/rank-00000.log"
    try:
        while not (log.exists() and "step 2 of" in log.read_text()):
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)  # files tell nobody that they have grown
        os.killpg(process.pid, signal.SIGTERM)  # as schedulers do: the reading processes get it too
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
    (state,) = (tmp_path / "checkpoints").glob("*.pt")
    step = int(re.sub(r"\D", "", state.name))
    assert 0 < step < 100000
    assert checkpoint.load(str(state))["gan"]["step"] == step
    assert process.stderr is not None
    # Between two steps, or in the wait for the first reading process that the signal ended.
    message = rf"interrupted[^:]*: saved at step {step}; the same command continues"
    assert re.search(message, process.stderr.read())
