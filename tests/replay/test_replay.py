"""`timbre replay`: a step of a run again, to the bit, and what each of its pairs weighs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.help.made_shards import make_shards, rewrite_shard
from tests.train.runs import WHOLE_RUN, config, scalars
from timbre.replay.command import main
from timbre.train.loop import train

QUICK_VALIDATION = "validation={perceptual_pairs: 0, harm_pairs: 0, shown_pairs: 0}"
BALANCED = "balancer.enabled=true"


def replay(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main([*words, "--json"]) == 0
    tree: dict[str, Any] = json.loads(capsys.readouterr().out)
    return tree


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps, adversarial from the sixth on, saved at every second; three are there."""
    folder = tmp_path_factory.mktemp("replay")
    url = make_shards(folder / "shards", [2], [1])
    train(config(url, folder / "run", *WHOLE_RUN, QUICK_VALIDATION))
    return folder / "run"


def test_an_adversarial_step_is_repeated_to_the_last_bit(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, files = tmp_path / "page.html", {*run_dir.rglob("*")}
    tree = replay(capsys, str(run_dir), "--step", "8", "--pairs", "--to", str(page))
    assert tree["start"] == 6 and tree["same"] is True
    curve = {event.step: event.value for event in scalars(run_dir).Scalars("g/loss")}
    assert np.float32(tree["metrics"]["g/loss"]) == np.float32(curve[8])
    assert sum(pair["share"] for pair in tree["pairs"]) == pytest.approx(1, abs=1e-4)
    assert {"mel", "adversarial", "feature_matching"} <= set(tree["pairs"][0]["terms"])
    keys = {"train-000000-0000", "train-000000-0001"}
    assert {pair["key"] for pair in tree["pairs"]} == keys
    text = page.read_text()
    assert all(key in text for key in keys) and text.count("<audio") == 4
    assert {*run_dir.rglob("*")} == files


def test_a_step_without_a_checkpoint_after_it_is_repeated_from_the_last_before(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_dir), "--step", "9"]) == 0
    output = capsys.readouterr().out
    assert "step 9, repeated from the checkpoint of step 8: loss" in output
    assert "last bit" not in output and "train/shard-000000.tar" in output


def test_with_other_settings_it_says_that_it_is_not_what_was(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_dir), "optimizer.learning_rate=0.01", "--step", "8"]) == 0
    assert "NOT as the run's checkpoint of this step" in capsys.readouterr().out


def test_a_spike_has_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = make_shards(tmp_path / "shards", [4], [1])
    bad = "train-000000-0002"
    rewrite_shard(
        url,
        "train/shard-000000.tar",
        lambda pair: pair._replace(clean=pair.clean[::-1] * 3) if pair.meta.key == bad else pair,
    )
    run_dir = tmp_path / "run"
    train(
        config(
            url, run_dir, "steps=3", "global_batch=4", "save_every=3", QUICK_VALIDATION, BALANCED
        )
    )
    tree = replay(capsys, str(run_dir), "--step", "3", "--pairs")
    assert tree["start"] == 0 and tree["same"] is True
    worst = max(tree["pairs"], key=lambda pair: float(pair["loss"]))
    assert worst["key"] == bad
    assert worst["loss"] > 1.1 * sorted(pair["loss"] for pair in tree["pairs"])[-2]
    assert (run_dir / "replay-00000003.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--step", "11"], "--step 11: expected 1 to 10, the steps of the run"),
        (["--step", "0"], "expected a whole number of at least 1"),
    ],
)
def test_a_step_that_the_run_has_not_is_refused(
    run_dir: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        assert main([str(run_dir), *words]) == 2
    except SystemExit as end:
        assert end.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--step", "1"]) == 2
    assert "no run of timbre train: it has no config.yaml" in capsys.readouterr().err
