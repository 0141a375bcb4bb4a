"""A local file appears whole or not at all, and a remnant goes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from timbre.storage import files as storage


def test_a_failed_write_leaves_neither_a_name_nor_a_remnant(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        storage.publish(tmp_path / "a", "text is not bytes")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_replaced_file_is_never_seen_half_written(tmp_path: Path) -> None:
    url = tmp_path / "a"
    storage.publish(url, b"old")
    inode = url.stat().st_ino
    storage.publish(url, b"new")
    assert url.stat().st_ino != inode  # renamed over, not written into
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


KILLED_WRITER = """
import os, signal, sys
from timbre import storage
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
storage.publish(sys.argv[1], bytes(1000))
"""


def test_what_a_killed_writer_leaves_is_not_listed_and_can_be_removed(tmp_path: Path) -> None:
    target = tmp_path / "train" / "shard.tar"
    process = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(target)], check=False)
    assert process.returncode == -signal.SIGKILL
    (remnant,) = target.parent.iterdir()
    mine = [target.parent / name for name in (".hidden", ".shard.tar.tmp", "x.tmp")]
    for path in mine:
        path.touch()
    assert [file.path for file in storage.find_files(tmp_path)] == [
        f"train/{path.name}" for path in sorted(mine)
    ]
    assert storage.remove_stale_temporaries(tmp_path) == 1
    assert sorted(target.parent.iterdir()) == sorted(mine)
    assert remnant not in mine
    assert storage.remove_stale_temporaries(tmp_path) == 0
    assert storage.remove_stale_temporaries("memory://bucket") == 0


def test_what_is_being_written_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    monkeypatch.setattr(
        os, "fsync", lambda _: counts.append(storage.remove_stale_temporaries(tmp_path))
    )
    storage.publish(tmp_path / "a", b"data")
    assert counts == [0]
    assert (tmp_path / "a").read_bytes() == b"data"


def test_the_longest_name_can_be_published(tmp_path: Path) -> None:
    name = "ä" * 125 + ".flac"  # 255 bytes
    storage.publish(tmp_path / name, b"data")
    assert [file.path for file in storage.find_files(tmp_path)] == [name]


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path, old: bytes | None) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        if old is not None:
            storage.publish(disk / "a", old)
        with pytest.raises(OSError, match=r"/a: cannot be written: No space left on device$"):
            storage.publish(disk / "a", bytes(100_000))
        assert [path.read_bytes() for path in disk.iterdir()] == ([] if old is None else [old])
    finally:
        subprocess.run(["umount", str(disk)], check=True)
