"""`timbre index` makes what opening the folder makes, and continues after an interruption."""

import os
from pathlib import Path

import pytest

from tests.help.made_shards import make_shards
from tests.shards.test_foreign import corpus, pairs, write
from timbre import shards
from timbre.index.command import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        write(tmp_path / f"tars/train/{number}.tar", pairs(3 * number, 3))
    write(tmp_path / "tars/val/held_out.tar", pairs(9, 2))
    return tmp_path / "tars"


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files beside the tars, without those that hold times."""
    files = [*folder.rglob("*.index"), *folder.glob("*.json")]
    return {path.name: path.read_bytes() for path in files}


def test_processes_make_what_threads_make(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--jobs", "2"]) == 0
    output = capsys.readouterr()
    assert output.out == (
        f"{folder}: train 9 pairs in 3 tars, val 2 pairs in 1 tars; manifest and indexes are in "
        f"{folder}\n"
    )
    by_processes = contents(folder)
    for path in [*folder.rglob("*.index"), *folder.glob("*.json"), folder / "tars.stamps"]:
        path.unlink()
    corpus(folder)
    assert contents(folder) == by_processes and len(by_processes) == 5
    assert main([str(folder)]) == 0 and capsys.readouterr().err == ""


def test_what_was_indexed_before_an_interruption_is_not_read_again(folder: Path) -> None:
    tar = folder / "train/1.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:5000])
    assert main([str(folder), "--jobs", "1"]) == 1
    tar.write_bytes(whole)
    first = folder / "train/0.index"
    before = first.stat().st_mtime_ns
    assert main([str(folder), "--jobs", "1"]) == 0
    assert first.stat().st_mtime_ns == before
    assert corpus(folder).pairs == 9


def test_a_tar_of_the_same_size_is_noticed_by_its_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = corpus(folder)
    tar = folder / "train/0.tar"
    size = tar.stat().st_size
    write(tar, ({**pair, "__key__": f"talk/02{number}"} for number, pair in enumerate(pairs(0, 3))))
    assert tar.stat().st_size == size
    touch(tar)
    after = corpus(folder)
    assert "1 tar was changed: train/0.tar;" in capsys.readouterr().err
    index = shards.load_index(after.index_folder, after.shards[0])
    assert [pair.key for pair in index.pairs] == ["talk/020", "talk/021", "talk/022"]
    assert after.shards[1:] == before.shards[1:]
    assert corpus(folder) == after and capsys.readouterr().err == ""


def test_a_tar_that_was_only_touched_keeps_its_manifest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So a run on the folder resumes."""
    before = corpus(folder)
    touch(folder / "train/0.tar")
    assert corpus(folder) == before and "1 tar was changed" in capsys.readouterr().err
    assert corpus(folder) == before and capsys.readouterr().err == ""


def touch(path: Path) -> None:
    after = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(after, after))


def test_what_is_no_folder_of_tars_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert f"{tmp_path}: expected a folder of tars" in capsys.readouterr().err
    url = make_shards(tmp_path / "ours", [2])
    assert main([url]) == 0
    assert "has a manifest of its own" in capsys.readouterr().out
