"""Checkpoints are whole, checked, pruned, and never run code."""

import io
import os
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from timbre.errors import CheckpointError
from timbre.models import checkpoint
from timbre.train import checkpoints


def state(number: int) -> dict[str, Any]:
    return {
        "config": {},
        "gan": {"x": torch.full((9,), float(number))},
        "stream": {},
        "best_score": 0,
    }


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").glob("*.pt"))


def value(state: checkpoints.SavedState | None) -> float:
    assert state is not None
    return float(state.state["gan"]["x"][0])


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    place = data.find(torch.full((9,), float(int(path.stem[5:]))).numpy().tobytes())
    data[place + 2] ^= 1  # one bit of one weight
    path.write_bytes(data)


def test_the_last_and_the_best_are_kept_and_listed_for_sha256sum(tmp_path: Path) -> None:
    for step in range(1, 7):
        checkpoints.save(str(tmp_path), step, state(step), 2, best_step=2 if step > 1 else None)
    assert names(tmp_path) == ["step-00000002.pt", "step-00000005.pt", "step-00000006.pt"]
    check = ["sha256sum", "--check", "--strict", checkpoint.SUMS]
    process = subprocess.run(
        check, cwd=tmp_path / "checkpoints", capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == [
        word for name in names(tmp_path) for word in (f"{name}:", "OK")
    ]


def test_a_damaged_last_one_is_noticed_and_the_one_before_is_used(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoints.save(str(tmp_path), step, state(step), 3)
    assert value(checkpoints.load_latest(str(tmp_path))) == 3
    damage(tmp_path / "checkpoints/step-00000003.pt")
    # PyTorch itself reads it without a word.
    torch.load(tmp_path / "checkpoints/step-00000003.pt", weights_only=True)
    last = checkpoints.load_latest(str(tmp_path))
    assert value(last) == 2 and last is not None
    (line,) = last.warnings
    assert "step-00000003.pt: damaged" in line and "SHA256SUMS" in line
    for step in (1, 2):
        damage(tmp_path / f"checkpoints/step-{step:08d}.pt")
    with pytest.raises(CheckpointError, match="every checkpoint is damaged"):
        checkpoints.load_latest(str(tmp_path))


def test_one_that_is_cut_or_not_listed_is_read_for_what_it_is(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoints.save(str(tmp_path), step, state(step), 3)
    (tmp_path / "checkpoints" / checkpoint.SUMS).unlink()
    assert value(checkpoints.load_latest(str(tmp_path))) == 2  # copied without the list
    last = tmp_path / "checkpoints/step-00000002.pt"
    last.write_bytes(last.read_bytes()[:-100])
    assert value(checkpoints.load_latest(str(tmp_path))) == 1


@pytest.mark.parametrize("killed_before", [".pt", "SHA256SUMS"])
def test_a_save_that_is_killed_leaves_the_last_one_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    checkpoints.save(str(tmp_path), 1, state(1), 1)
    publish = checkpoint.storage.publish

    def die(url: str, data: bytes) -> None:
        if url.endswith(killed_before):
            raise KeyboardInterrupt
        publish(url, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.storage, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(str(tmp_path), 2, state(2), 1)
    assert value(checkpoints.load_latest(str(tmp_path))) == 1
    checkpoints.save(str(tmp_path), 2, state(2), 1)
    assert value(checkpoints.load_latest(str(tmp_path))) == 2
    assert names(tmp_path) == ["step-00000002.pt"]


class Malicious:
    """Unpickled by anything that trusts it, makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_a_checkpoint_that_holds_code_is_refused_and_the_code_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    path = tmp_path / "step-00000001.pt"
    torch.save({**state(1), "best_score": Malicious(proof)}, path)
    with pytest.raises(CheckpointError, match=r"step-00000001\.pt: not a training state"):
        checkpoint.load(str(path))
    assert not proof.exists()
    torch.load(path, weights_only=False)  # it would have
    assert proof.exists()


def test_what_is_no_training_state_is_refused_by_name(tmp_path: Path) -> None:
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    torch.save({"model": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "zip.pt").write_bytes(empty.getvalue())
    (tmp_path / "text.pt").write_text("hello")
    for name in ("other", "zip", "text"):
        with pytest.raises(CheckpointError, match=rf"{name}\.pt: not a training state"):
            checkpoint.load(str(tmp_path / f"{name}.pt"))
