"""Trackers beside TensorBoard, by their real packages and without a network."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from struct import unpack
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator

from tests.train.runs import TINY, config
from timbre import audio, packages
from timbre.errors import MissingPackageError, WorkError
from timbre.train.command import main
from timbre.train.loop import train
from timbre.train.watch.trackers import TrackedRun, Tracker, TrackerName, open_trackers

SECRET = "hunter2"
TREE = {"steps": 8, "generator": {"size": "tiny", "max_lift_db": None}}
WAVE = (0.25 * np.sin(np.arange(4800) / 20)).astype(np.float32)
PICTURE = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which all trackers write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    # Its database makes itself in some ten seconds; files do here.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/mlruns")
    monkeypatch.setenv("TRACKIO_DIR", f"{tmp_path}/trackio")
    yield tmp_path


def begin(name: TrackerName, folder: Path, first: int) -> Tracker:
    pytest.importorskip(name, reason="a large package; .ci/run installs those in the extra dev")
    run = TrackedRun(str(folder / "my run"), first, "voices", TREE)
    (tracker,) = open_trackers([name], run, Accelerator(cpu=True), pytest.fail)
    return tracker


def log(tracker: Tracker, first: int) -> None:
    for step in (first + 2, first + 4):
        tracker.scalars({"g/loss": 1 / step}, step)
    tracker.picture("pair/a-1/degraded_restored", PICTURE, first + 4)
    tracker.sound("pair/a-1/restored", WAVE, first + 4)
    tracker.close()


def log_twice(name: TrackerName, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Log up to step 4, and from 2 on again, as a run does that was killed after its checkpoint."""
    for first in (0, 2):
        # W&B names folders by the second, and these starts may be in the same one.
        (folder / f"start-{first}").mkdir()
        patch.setenv("WANDB_DIR", str(folder / f"start-{first}"))
        log(begin(name, folder, first), first)
        if name == "wandb":
            importlib.import_module("wandb").teardown()  # as at the end of a process


LOSSES = [(2, 1 / 2), (4, 1 / 4), (4, 1 / 4), (6, 1 / 6)]


def check_media(folder: Path) -> None:
    """Fail unless both pictures and both sounds are there, as they were."""
    sounds = [audio.read(path)[0] for path in folder.rglob("*.wav")]
    assert len(sounds) == 2
    for sound in sounds:
        np.testing.assert_allclose(sound.ravel(), WAVE, atol=1e-4)
    assert len(list(folder.rglob("*.png"))) == 2


def test_mlflow_has_one_run_of_two_starts(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_twice("mlflow", offline, monkeypatch)
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("voices")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "my run"
    assert run.data.params == {
        "steps": "8",
        "generator.size": "tiny",
        "generator.max_lift_db": "None",
    }
    history = client.get_metric_history(run.info.run_id, "g/loss")
    assert sorted((point.step, point.value) for point in history) == LOSSES
    configs = [file.path for file in client.list_artifacts(run.info.run_id)]
    assert {"config-00000000.yaml", "config-00000002.yaml"} <= set(configs)
    check_media(offline)


def test_wandb_has_one_run_of_two_starts(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_twice("wandb", offline, monkeypatch)
    records = [one for path in sorted(offline.rglob("*.wandb")) for one in wandb_records(path)]
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {(run.project, run.display_name) for run in runs} == {("voices", "my run")}
    assert len({run.run_id for run in runs}) == 1
    rows = [
        {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    losses = [(int(row["step"]), float(row["g/loss"])) for row in rows if "g/loss" in row]
    assert losses == LOSSES
    values = {
        update.key: json.loads(update.value_json)
        for record in records
        for update in record.config.update
    }
    assert values == TREE
    check_media(offline)


def test_trackio_has_one_run_of_two_starts(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_twice("trackio", offline, monkeypatch)
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = trackio.Api().runs("voices")
    assert run.name.startswith("my run-") and run.config["generator"] == TREE["generator"]
    rows = SQLiteStorage.get_logs("voices", run.name)
    assert sorted((row["step"], row["g/loss"]) for row in rows if "g/loss" in row) == LOSSES
    check_media(offline)


def wandb_records(path: Path) -> Iterator[Any]:
    """Yield what W&B would send, from its file of blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if at % 32768 > 32768 - 7:
            at += 32768 - at % 32768
        length, kind = unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            yield Record.FromString(whole)
            whole = b""


def test_a_tracker_that_is_not_installed_ends_the_run_before_any_work(
    noise_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    words = [f"data=[{{manifest: {noise_url}}}]", f"run_dir={tmp_path / 'run'}"]
    assert main([TINY, *words, "trackers=[tensorboard, wandb]"]) == 1
    message = "trackers: wandb needs the package wandb: pip install 'timbre[trackers]'"
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_each_tracker_is_named_with_its_extra(
    name: TrackerName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=rf"{name} needs .* 'timbre\[trackers\]'"):
        packages.require(name, f"trackers: {name}")


def test_a_service_that_fails_is_reported_once_and_left_alone() -> None:
    class Broken:
        calls = 0

        def scalars(self, *_: object) -> None:
            self.calls += 1
            raise ConnectionError("no answer\nand more")

        picture = sound = close = scalars

    broken, lines = Broken(), list[str]()
    log(Tracker("mlflow", broken, lines.append), 0)
    assert broken.calls == 1
    assert lines == [
        "warning: tracker mlflow: ConnectionError: no answer; nothing more is logged there until the "
        "next start"
    ]


@pytest.mark.parametrize("text", ["{", "[1]", '{"wandb": 1}'])
def test_a_damaged_list_of_names_says_what_to_do(text: str, tmp_path: Path) -> None:
    (tmp_path / "trackers.json").write_text(text)
    with pytest.raises(WorkError, match=r"trackers\.json: expected JSON .* delete it"):
        open_trackers(
            ["wandb"], TrackedRun(str(tmp_path), 0, "p", {}), Accelerator(cpu=True), print
        )


def test_a_run_is_logged_without_secrets_by_every_tracker_there_is(
    noise_url: str, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name in ("wandb", "mlflow", "trackio") if not packages.missing(name)]
    if not names:
        pytest.skip("no tracker is installed; .ci/run installs those in the extra dev")
    run_dir = offline / "run"
    cache = f"reading.cache_dir=https://user:{SECRET}@host/cache"  # data on a disk needs none
    monkeypatch.setattr(sys, "argv", ["timbre", "train", cache])
    quick = "steps=3", "validation={perceptual_pairs: 0, harm_pairs: 0, shown_pairs: 1}"
    train(config(noise_url, run_dir, f"trackers=[{', '.join(names)}]", *quick, cache))
    assert not (run_dir / "tensorboard").exists()
    assert set(json.loads((run_dir / "trackers.json").read_text())) == set(names)
    for path in offline.rglob("*"):
        if path.is_file() and not path.is_relative_to(run_dir / "checkpoints"):
            assert SECRET.encode() not in path.read_bytes(), path
