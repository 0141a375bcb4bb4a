"""Releases: what a run becomes in a folder and on the Hub, and what loads it again."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from tests.conftest import ROOT
from tests.help.evaluations import run as evaluate
from tests.help.hub import Hub, hub  # noqa: F401
from tests.help.made_shards import make_shards
from tests.train.runs import config as run_config
from timbre import Restorer
from timbre import config as configs
from timbre.errors import CheckpointError
from timbre.evaluate.systems import parse_systems
from timbre.export import command as export
from timbre.models import checkpoint, load_generator
from timbre.publish import command as publish
from timbre.train import checkpoints
from timbre.train.config import TrainConfig
from timbre.train.run import open_run

CATALOGUE = [
    {"path": "a", "seconds": 3600.0, "speaker": "anna", "licence": "CC0-1.0", "split": "train"},
    {"path": "b", "seconds": 1800.0, "speaker": "bo|b", "licence": "CC0-1.0", "split": "train"},
    {"path": "c", "seconds": 1800.0, "speaker": "cleo", "licence": None, "split": "train"},
    {"path": "d", "seconds": 9.0, "speaker": "dora", "licence": "MIT", "split": "val"},
    {"path": "e", "seconds": 9.0, "speaker": "emil", "licence": "GPL-2", "refused": "silent"},
]


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of no steps whose best weights and last state are there, beside its shards."""
    folder = tmp_path_factory.mktemp("home of the publisher")
    manifest = make_shards(folder / "shards", train=[4], val=[4], noisy=True)
    (folder / "shards/catalogue").mkdir()
    lines = "\n".join(map(json.dumps, CATALOGUE))
    (folder / "shards/catalogue/speech-000001.jsonl").write_text(lines)
    config = run_config(manifest, folder / "run", "init_from=offline", "generator.size=small",
                        "generator.noisy_input=true", "generator.max_lift_db=12",
                        "generator.limit_change=true", "generator.limit_pauses=true")  # fmt: skip
    with open_run(config) as run:
        notes = {"step": 0, "figures": {}}
        content = checkpoint.pack_generator(run.gan.average, config.generator, notes)
        (folder / "run/best.safetensors").write_bytes(content)
        checkpoints.save(config.run_dir, 0, run.state.state_dict(), 1)
    return folder / "run"


def head(card: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return tree


def test_a_folder_is_whole_checked_and_says_nothing_of_the_machine(
    a_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "voice"
    words = [str(a_run), "--to", str(folder), "--training-state", "--license", "apache-2.0"]
    assert publish.main(words) == 0
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    weights = (folder / "model.safetensors").read_bytes()
    assert weights == (a_run / "best.safetensors").read_bytes()
    for path in folder.iterdir():
        assert str(a_run.parent).encode() not in path.read_bytes(), path
        assert b"publisher" not in path.read_bytes(), path
    config = json.loads((folder / "config.json").read_text())
    assert config["generator"]["size"] == "small"
    assert config["training"]["global_batch"] == 2


def test_the_card_has_the_licences_of_the_training_recordings(a_run: Path, tmp_path: Path) -> None:
    assert publish.main([str(a_run), "--to", str(tmp_path / "voice")]) == 0
    card = (tmp_path / "voice/README.md").read_text()
    assert "| speech | CC0-1.0 | 2 | 1.50 |" in card
    assert "| speech | unknown | 1 | 0.50 |" in card
    assert "MIT" not in card
    assert "GPL" not in card
    assert "3 named speakers" in card
    assert head(card)["license"] == "unknown"
    assert "training started from offline" in card
    assert "learned behind df3." in card


def test_the_card_has_the_figures_of_these_weights_as_the_hub_reads_them(
    a_run: Path, tmp_path: Path
) -> None:
    best, shards = str(a_run / "best.safetensors"), str(a_run.parent / "shards")
    metrics = evaluate(f"mine={best}", shards, tmp_path / "figures")
    words = [str(a_run), "--to", str(tmp_path / "voice"), "--evaluation", str(tmp_path / "figures")]
    assert publish.main(words) == 0
    data = ModelCard((tmp_path / "voice/README.md").read_text()).data
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    means = {name: it["mean"] for name, it in metrics["main"]["systems"]["mine"].items()}
    assert values == {name: round(mean, 4) for name, mean in means.items()}
    assert data.eval_results[0].dataset_name == "shards"


def test_figures_of_other_weights_are_refused(
    a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = {"systems_measured": [{"name": "df3"}, {"name": "old", "sha256": "0" * 64}]}
    (tmp_path / "metrics.json").write_text(json.dumps(tree))
    words = [str(a_run), "--to", str(tmp_path / "voice"), "--evaluation", str(tmp_path)]
    assert publish.main(words) == 2
    assert "measures old, none of which has the weights' SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "voice").exists()


def test_everything_that_takes_a_checkpoint_takes_a_release_on_the_hub(
    a_run: Path,
    tmp_path: Path,
    hub: Hub,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert publish.main([str(a_run), "--to", "hf://me/voice", "--training-state"]) == 0
    pinned = capsys.readouterr().out.split()[1]
    oid = hub.repositories["me/voice"]["main"].oid
    weights = (a_run / "best.safetensors").read_bytes()
    assert pinned == f"hf://me/voice@{oid}#sha256={hashlib.sha256(weights).hexdigest()}"
    ours, _ = load_generator(str(a_run / "best.safetensors"))
    restorer = Restorer.load(pinned, denoise=False)
    assert restorer.generator is not None
    for one, other in zip(restorer.generator.parameters(), ours.parameters(), strict=True):
        assert torch.equal(one, other)
    assert export.main(["hf://me/voice", str(tmp_path / "exported.safetensors")]) == 0
    system = parse_systems(["hf://me/voice"])[-1]
    assert (system.name, system.word) == ("restored", "hf://me/voice")
    manifest = str(a_run.parent / "shards/manifest.json")
    config = run_config(manifest, tmp_path / "run", "init_from=hf://me/voice",
                        "generator.size=small", "generator.noisy_input=true")  # fmt: skip
    with open_run(config, writes=False) as run:
        assert "starting from hf://me/voice" in run.warnings()
        tensors = zip(run.gan.average.parameters(), ours.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in tensors)


def test_the_training_state_holds_both_networks_and_no_place(
    a_run: Path,
    hub: Hub,  # noqa: F811
) -> None:
    assert publish.main([str(a_run), "--to", "hf://me/voice", "--training-state"]) == 0
    data = hub.repositories["me/voice"]["main"].files["training_state.pt"]
    state = torch.load(io.BytesIO(data), weights_only=True)
    assert set(state["gan"]) == {"step", *checkpoints.TRANSFER_NAMES}
    assert set(state["config"]) == {"generator", "discriminator"}
    assert publish.main([str(a_run), "--to", "hf://me/voice"]) == 0
    assert "training_state.pt" not in hub.repositories["me/voice"]["main"].files


def test_a_training_state_of_others_that_lacks_a_part_is_one_error(
    a_run: Path,
    tmp_path: Path,
    hub: Hub,  # noqa: F811
) -> None:
    assert publish.main([str(a_run), "--to", "hf://me/voice", "--training-state"]) == 0
    files = dict(hub.repositories["me/voice"]["main"].files)
    state = torch.load(io.BytesIO(files["training_state.pt"]), weights_only=True)
    del state["gan"]["average"]
    buffer = io.BytesIO()
    torch.save(state, buffer)
    hub.commit("me/voice", files | {"training_state.pt": buffer.getvalue()})
    manifest = str(a_run.parent / "shards/manifest.json")
    config = run_config(manifest, tmp_path / "run", "init_from=hf://me/voice",
                        "generator.size=small", "generator.noisy_input=true")  # fmt: skip
    with pytest.raises(
        CheckpointError, match=r"hf://me/voice: cannot be trained on from: 'average'"
    ):
        open_run(config, writes=False)


def remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


def damage(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-100])


@pytest.mark.parametrize(
    ("spoil", "name", "message"),
    [
        (remove, "best.safetensors", "no best.safetensors: expected the run_dir of a training"),
        (remove, "config.yaml", "no config.yaml: expected the run_dir of a training"),
        (remove, "checkpoints/step-00000000.pt", "--training-state:"),
        (damage, "best.safetensors", "best.safetensors: not a generator of timbre"),
        (damage, "checkpoints/step-00000000.pt", "damaged: its SHA-256 is not the one"),
    ],
)
def test_a_run_that_lacks_something_is_one_error_and_nothing_is_written(
    a_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path, str], None],
    name: str,
    message: str,
) -> None:
    for path in a_run.rglob("*"):
        if (
            path.is_file()
            and path.suffix in (".safetensors", ".yaml", ".pt", "")
            and path.name != "run.lock"
        ):
            copy = tmp_path / "run" / path.relative_to(a_run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    spoil(tmp_path / "run", name)
    words = [str(tmp_path / "run"), "--to", str(tmp_path / "voice"), "--training-state"]
    assert publish.main(words) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "voice").exists()


def test_a_finished_release_is_never_overwritten(
    a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(a_run), "--to", str(tmp_path / "voice")]
    assert publish.main(words) == 0
    before = (tmp_path / "voice/README.md").read_bytes()
    assert publish.main([*words, "--license", "mit"]) == 2
    assert "holds a release already" in capsys.readouterr().err
    assert (tmp_path / "voice/README.md").read_bytes() == before


def test_data_that_is_gone_is_named_and_the_card_says_so(
    a_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/best.safetensors").write_bytes((a_run / "best.safetensors").read_bytes())
    text = (a_run / "config.yaml").read_text().replace("/shards/", "/moved away/")
    (tmp_path / "run/config.yaml").write_text(text)
    assert publish.main([str(tmp_path / "run"), "--to", str(tmp_path / "voice")]) == 0
    assert "moved away" in capsys.readouterr().err
    assert "Of moved away nothing is known" in (tmp_path / "voice/README.md").read_text()


def test_the_shipped_config_for_one_voice_starts_from_the_shipped_weights(tmp_path: Path) -> None:
    manifest = make_shards(tmp_path / "shards", train=[6], val=[2], noisy=True, seconds=1.6)
    words = [f"data=[{{manifest: {manifest}}}]", f"run_dir={tmp_path / 'run'}", "workers=0"]
    config = configs.load(TrainConfig, ROOT / "configs/fine_tune.yaml", words)
    with open_run(config, writes=False) as run:
        shipped, _ = load_generator("offline")
        tensors = zip(run.gan.average.parameters(), shipped.parameters(), strict=True)
        assert all(torch.equal(one.float(), other.float()) for one, other in tensors)
