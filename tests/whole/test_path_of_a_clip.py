"""One clip's whole way by the commands that a user types: shards, training, a restored file, figures."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shard_tools.make.tar import build_tar
from tests.conftest import ROOT
from tests.help.made_shards import publish_tar, stored_pairs
from tests.train.runs import config_of
from timbre import audio, cli, demo
from timbre.audio.synthetic.voice import voice
from timbre.models import checkpoint
from timbre.shards.whole_pairs import load_pair
from timbre.train import checkpoints
from timbre.train.loop import train_step
from timbre.train.run import open_run


def test_a_clip_travels_from_its_file_to_a_restored_file(manifest_url: str, tmp_path: Path) -> None:
    run, noisy, restored = tmp_path / "run", tmp_path / "in/noisy/a.wav", tmp_path / "restored.wav"
    rng = np.random.default_rng(3)
    clean = voice(2.0, rng)
    audio.write(tmp_path / "in/clean/a.wav", clean, 48000)
    audio.write(noisy, clean + 0.01 * rng.standard_normal(len(clean)).astype(np.float32), 48000)
    words = ["segment_seconds=0.5", "steps=4", "optimizer.warmup_steps=1", "validate_every=4"]
    data = [f"data=[{{manifest: {manifest_url}}}]", f"run_dir={run}"]
    checkpoint = str(run / "best.safetensors")
    for command in [
        ["verify", manifest_url],
        ["stats", manifest_url],
        ["peek", manifest_url, "--global-batch", "4", "--world", "2", "--rank", "1"],
        ["train", str(ROOT / "configs/train_tiny.yaml"), *data, *words],
        ["restore", str(noisy), str(restored), "--checkpoint", checkpoint],
        ["evaluate", checkpoint, "--data", str(tmp_path / "in"), "--out", str(tmp_path / "report")],
    ]:
        assert cli.main(command) == 0, command
    after, rate = audio.read(restored)
    assert (after.shape, rate) == ((1, len(clean)), 48000)
    assert np.sum((after[0] - clean) ** 2) < np.sum(clean**2)
    assert json.loads((tmp_path / "report/metrics.json").read_text())


def test_peek_shows_each_rank_its_share(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def peek(*words: str) -> list[list[str]]:
        assert cli.main(["peek", manifest_url, "--global-batch", "4", "--steps", "3", *words]) == 0
        return [line.split()[1:] for line in capsys.readouterr().out.splitlines()]

    whole = peek()
    halves = [peek("--world", "2", "--rank", str(rank)) for rank in range(2)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole
    assert peek("--start", "4")[:2] == whole[1:]


def test_the_demo_uses_the_tiny_configs() -> None:
    for text, name in [(demo.PREP, "prep_tiny.yaml"), (demo.TRAIN, "train_tiny.yaml")]:
        assert (ROOT / "configs" / name).read_text() == text


def test_unheard_clips_have_the_ratio_that_their_name_says(tmp_path: Path) -> None:
    demo.write_unheard(tmp_path)
    for kind, snr_db in demo.UNHEARD:
        noisy, clean = (
            audio.read(tmp_path / side / f"{kind}_{snr_db:.0f}db.wav")[0]
            for side in ("noisy", "clean")
        )
        assert abs(audio.level_db(clean) - audio.level_db(noisy - clean) - snr_db) < 0.1


@pytest.mark.parametrize("command", [[], *([name] for name in cli.COMMANDS)])
def test_every_command_explains_itself(command: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "timbre", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: timbre" in process.stdout


@pytest.mark.parametrize("command", [[], ["nonsense"], ["train"], ["restore", "a.wav"]])
def test_bad_usage_ends_with_2(command: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "timbre", *command], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2 and "Traceback" not in process.stderr


CPU = torch.device("cpu")


def test_prepared_speech_trains_and_the_result_loads(manifest_url: str, tmp_path: Path) -> None:
    shutil.copytree(Path(manifest_url).parent, tmp_path / "shards")
    url = f"{tmp_path}/shards/manifest.json"
    held_out = stored_pairs(url, "val/shard-000000.tar")[:2]  # measuring each takes its time
    publish_tar(url, "val/shard-000000.tar", build_tar(held_out, "flac"))
    overrides = ["segment_seconds=0.4", "validation={perceptual_pairs: 1, harm_pairs: 0}"]
    run = open_run(config_of([url], tmp_path / "run", *overrides))
    batch = next(run.batches())
    logs = [train_step(run, batch) for _ in range(8)]
    assert logs[-1]["g/loss"].item() < 0.95 * logs[0]["g/loss"].item()
    run.watch(logs[-1])
    run.validate()
    assert run.save() and run.state.best_step == 8 and math.isfinite(run.state.best_score)
    run.close()
    generator, config = checkpoint.load_generator(f"{run.config.run_dir}/{checkpoints.BEST}")
    assert config == run.config.generator
    pair = load_pair(run.validation.pairs[0], CPU)
    with torch.inference_mode():
        assert generator(pair.degraded).equal(run.gan.average(pair.degraded))
