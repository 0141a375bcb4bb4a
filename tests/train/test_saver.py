"""The training state is written beside the next steps; failures are told, and nothing is lost."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from tests.train.kill_saves import kill_during_a_save
from tests.train.runs import ADVERSARIAL, check_same, config
from timbre import storage
from timbre.errors import WorkError
from timbre.models import checkpoint
from timbre.train import checkpoints
from timbre.train.loop import train, train_step
from timbre.train.run import Run, open_run
from timbre.train.saver import HostCopy

OFTEN = ("log_every=1", "save_every=1", "validate_every=99", "keep_checkpoints=9", ADVERSARIAL)
UNSEEN = "validation={perceptual_pairs: 0, harm_pairs: 0, shown_pairs: 0}"


@contextmanager
def files_of_at_most(bytes: int) -> Iterator[None]:
    """Refuse larger files, as a full disk does; the small ones of the log still go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def step(run: Run, steps: int = 1) -> None:
    batches = run.batches()
    for _ in range(steps):
        run.watch(train_step(run, next(batches)))


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


def test_the_file_has_the_bits_of_a_save_that_is_waited_for(
    pair_url: str, whole_run: Path, tmp_path: Path
) -> None:
    last = "checkpoints/step-00000010.pt"
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    shutil.copy(whole_run / last, tmp_path / "run" / last)
    with open_run(config(pair_url, tmp_path / "run", *OFTEN, "steps=11")) as run:
        state = run.state.state_dict()
        assert state["gan"]["discriminator_optimizer"]["state"]  # both networks have moments
        expected = checkpoints.save(str(tmp_path / "waited"), 10, HostCopy().take(state), 1)
        run.save()
    assert (tmp_path / "run" / last).read_bytes() == storage.read(expected)
    check_same(checkpoint.load(str(tmp_path / "run" / last)), state)


def test_steps_beside_a_save_do_not_change_it_and_the_next_save_waits(
    pair_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, save, starts = Event(), checkpoints.save, []

    def save_at_the_gate(run_dir: str, step: int, *rest: Any) -> str:
        starts.append((step, names(tmp_path) if step > 1 else []))
        assert gate.wait(60)
        return save(run_dir, step, *rest)

    monkeypatch.setattr(checkpoints, "save", save_at_the_gate)
    with open_run(config(pair_url, tmp_path, *OFTEN)) as run:
        step(run)
        expected = HostCopy().take(run.state.state_dict())
        run.save()
        step(run, 2)
        assert not (tmp_path / "checkpoints").exists()  # it has not been written yet
        gate.set()
        run.save()
    assert starts == [(1, []), (3, ["SHA256SUMS", "step-00000001.pt"])]
    check_same(checkpoint.load(str(tmp_path / "checkpoints/step-00000001.pt")), expected)


def test_tensors_that_share_memory_share_it_in_the_copy() -> None:
    memory = torch.arange(12.0)
    state = {"rows": memory.view(3, 4), "columns": memory.view(3, 4).t(), "end": memory[9:]}
    copied = HostCopy().take({**state, "none": torch.ones(0), "steps": torch.ones(2).long()})
    check_same({name: copied[name] for name in state}, state)
    assert len({copied[name].untyped_storage().data_ptr() for name in state}) == 1
    copied["end"][0] = -1
    assert copied["rows"][2, 1] == copied["columns"][1, 2] == -1 and memory.min() == 0


def test_a_copy_in_the_same_buffers_keeps_types_and_follows_new_shapes() -> None:
    network, copies = torch.nn.Linear(3, 2), HostCopy()
    state = {"network": network.state_dict(), "rest": [torch.ones(2).t(), {"lr": 0.1}, "name"]}
    first = copies.take(state)
    assert type(first["network"]) is type(state["network"])
    assert first["network"]._metadata == network.state_dict()._metadata  # type: ignore[attr-defined]
    check_same(first, state)
    place = first["network"]["weight"].data_ptr()
    torch.nn.init.zeros_(network.weight)
    assert not first["network"]["weight"].eq(0).all()
    assert copies.take(state)["network"]["weight"].data_ptr() == place
    check_same(copies.take({"x": torch.ones(5)}), {"x": torch.ones(5)})


def test_a_failed_save_is_told_at_once_and_the_next_one_saves_all(
    pair_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with open_run(config(pair_url, tmp_path, *OFTEN, UNSEEN)) as run:
        assert run.saver is not None
        step(run)
        run.save()
        run.finish_saving()
        with files_of_at_most(2**18):
            step(run)
            run.saver.save_best(b"g" * 2**19)  # the best generator cannot be written either
            run.save()
            step(run)
            run.save()  # has waited for the one before
            output = capfd.readouterr().err
            assert "not saved" in output and "File too large" in output
            assert f"{tmp_path}/checkpoints/step-00000002.pt" in output
            assert "(1 failed in a row, max_failed_saves is 3)" in output
            assert f"{tmp_path}/best.safetensors" in output
            assert not (tmp_path / "best.safetensors").exists()
            assert names(tmp_path) == ["SHA256SUMS", "step-00000001.pt"]
        run.finish_saving()  # tries once more
        step(run)
        run.save()
    assert names(tmp_path) == ["SHA256SUMS", *(f"step-0000000{step}.pt" for step in (1, 3, 4))]
    assert (tmp_path / "best.safetensors").read_bytes() == b"g" * 2**19
    assert "not saved" in (tmp_path / "logs/rank-00000.log").read_text()


def test_too_many_failed_saves_end_the_run_and_the_last_whole_one_goes_on(
    pair_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides = [*OFTEN, UNSEEN, "max_failed_saves=2", "optimizer.warmup_steps=1"]
    train(config(pair_url, tmp_path, *overrides, "steps=2"))
    end = r"2 saves in a row have failed \(max_failed_saves 2\).*checkpoints.*File too large"
    with pytest.raises(WorkError, match=end), files_of_at_most(2**18):
        train(config(pair_url, tmp_path, *overrides, "steps=50"))
    assert capfd.readouterr().err.count("not saved") == 2
    assert names(tmp_path)[1:] == ["step-00000001.pt", "step-00000002.pt"]
    train(config(pair_url, tmp_path, *overrides, "steps=3"))
    assert names(tmp_path)[-1] == "step-00000003.pt"


def test_a_last_save_that_fails_is_an_error(pair_url: str, tmp_path: Path) -> None:
    overrides = [UNSEEN, "steps=3", "save_every=99", "validate_every=99"]
    end = "end of the run is not saved.*step-00000003"
    with pytest.raises(WorkError, match=end), files_of_at_most(2**18):
        train(config(pair_url, tmp_path, *overrides))


@pytest.mark.parametrize("saves", [1, 2, 5])
def test_a_kill_during_the_write_leaves_the_last_whole_one(tmp_path: Path, saves: int) -> None:
    last_report, last_step = kill_during_a_save(tmp_path, saves)
    assert saves <= last_report <= last_step
