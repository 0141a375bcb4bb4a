"""Copies that are damaged, forged or cut, and folders and disks that cannot hold them."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.storage.cached_files import (
    BYTES,
    Source,
    matches,
    names,
    read,
    sizes,
)
from timbre.errors import ShardError
from timbre.storage import cache
from timbre.storage.cache import FileCache
from timbre.storage.remote import Span


def test_a_folder_that_is_deleted_again_and_again_is_told(source: Source, folder: Path) -> None:
    source.during = lambda: shutil.rmtree(folder)
    file = source.add("a")
    with pytest.raises(OSError, match=f"^{folder}: cannot keep a copy of {file.url}: No such file"):
        FileCache(folder, 10**9, source.read_many).open(*file)


def test_a_damaged_copy_is_discarded_and_a_sound_one_kept(source: Source, folder: Path) -> None:
    file = source.add("a")
    files = FileCache(folder, 10**9, source.read_many)
    read(files, file)
    path = folder / f"{file.sha256}.shard"
    files.discard(file.sha256)
    assert path.exists()
    handle = files.open(*file)
    assert handle is not None
    with path.open("r+b") as file_on_disk:
        file_on_disk.write(b"damage")
    files.discard(file.sha256)
    files.discard(file.sha256)
    assert sizes(folder) == {}
    assert matches(file, read(files, file))
    assert handle.read().startswith(b"damage")
    handle.close()
    assert files.fetches == 2


def test_a_copy_that_was_cut_is_fetched_again(source: Source, folder: Path) -> None:
    file = source.add("a")
    files = FileCache(folder, 10**9, source.read_many)
    read(files, file)
    os.truncate(folder / f"{file.sha256}.shard", BYTES - 1)
    assert matches(file, read(files, file))
    assert files.fetches == 2


@pytest.mark.parametrize("damage", [b"", b"damage", b"damage" * BYTES], ids=len)
def test_what_came_damaged_once_is_fetched_again(
    source: Source, folder: Path, damage: bytes
) -> None:
    file = source.add("a")

    def read_many(spans: Sequence[Span]) -> list[bytes]:
        parts = source.read_many(spans)
        return parts if len(source.reads) > 1 else [damage]

    files = FileCache(folder, 10**9, read_many)
    assert matches(file, read(files, file))
    assert sizes(folder) == {f"{file.sha256}.shard": BYTES}
    assert files.fetches == 1
    assert files.fetched_bytes == BYTES + len(damage)


def test_a_download_holds_few_parts_in_memory(
    source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PART_BYTES", 1000)
    file = source.add("a", 10_500)
    assert matches(file, read(FileCache(folder, 10**9, source.read_many), file))
    assert [[span.length for span in spans] for spans in source.reads] == [
        [1000] * 4,
        [1000] * 4,
        [1000] * 2 + [500],
    ]


def test_an_empty_file_is_a_file(source: Source, folder: Path) -> None:
    assert read(FileCache(folder, 10**9, source.read_many), source.add("a", 0)) == b""


def test_what_is_no_hash_is_no_file_name(source: Source, folder: Path) -> None:
    with pytest.raises(ShardError, match=r"^u: sha256 '../x', expected 64 hexadecimal digits$"):
        FileCache(folder, 10**9, source.read_many).open("u", 1, "../x")


def test_a_copy_is_not_for_writing(source: Source, folder: Path) -> None:
    file = source.add("a")
    files = FileCache(folder, 10**9, source.read_many)
    for handle in (files.open(*file), files.open(*file)):
        assert handle is not None
        assert not handle.writable()
        handle.close()


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of 1 MB."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    with suppress(OSError):
        if os.getuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0:
            try:
                yield folder
            finally:
                subprocess.run(["umount", "-l", str(folder)], check=True)
            return
    pytest.skip("only root may mount")


@pytest.mark.parametrize("part", [300_001, 2**23])
def test_a_full_disk_is_told_and_nothing_half_written_left(
    source: Source, small_disk: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(cache, "PART_BYTES", part)
    first, large = source.add("first", 300_000), source.add("large", 1_000_000)
    files = FileCache(small_disk, 10**9, source.read_many)
    read(files, first)
    full = f"^{small_disk}: cannot keep a copy of {large.url}: {os.strerror(errno.ENOSPC)}$"
    with pytest.raises(OSError, match=full):
        files.open(*large)
    assert set(sizes(small_disk)) == names(first)
    assert matches(first, read(files, first))
    # Of a disk that may be read only, what is there is used.
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    age_before = (small_disk / f"{first.sha256}.shard").stat().st_mtime
    monkeypatch.setattr(cache, "TOUCH_SECONDS", 0.0)
    assert matches(first, read(files, first))
    assert (small_disk / f"{first.sha256}.shard").stat().st_mtime == age_before
    with pytest.raises(
        OSError, match=f"^{small_disk}: cannot keep .*: {os.strerror(errno.EROFS)}$"
    ):
        files.open(*large)


def test_a_folder_that_cannot_be_made_is_told(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = f"^{tmp_path}/file/cache: cannot keep a copy of .*: {os.strerror(errno.ENOTDIR)}$"
    with pytest.raises(OSError, match=message):
        FileCache(tmp_path / "file" / "cache", 10**9, source.read_many).open(*source.add("a"))


@pytest.mark.parametrize("kind", ["forged", "cut", "longer"])
def test_a_copy_that_was_changed_is_noticed_by_the_next_process(
    source: Source, folder: Path, kind: str
) -> None:
    file = source.add("a")
    read(FileCache(folder, 10**9, source.read_many), file)
    path = folder / f"{file.sha256}.shard"
    data, times = bytearray(path.read_bytes()), path.stat()
    data[BYTES // 2] ^= 1
    path.write_bytes({"forged": data, "cut": data[:-1], "longer": data + b"x"}[kind])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    files = FileCache(folder, 10**9, source.read_many)  # as another process has it
    assert matches(file, read(files, file))
    assert (files.fetches, files.hits) == (1, 0)
    assert matches(file, read(files, file))
    assert (files.fetches, files.hits) == (1, 1)


@pytest.mark.parametrize("name", [".{}.lock", "{}.shard"])
def test_a_link_that_others_have_put_leads_to_no_file_of_ours(
    source: Source, folder: Path, tmp_path: Path, name: str
) -> None:
    file, victim = source.add("a"), tmp_path / "victim"
    victim.write_bytes(b"precious")
    folder.mkdir(mode=0o700)
    (folder / name.format(file.sha256)).symlink_to(victim)
    files = FileCache(folder, 10**9, source.read_many)
    if "lock" in name:
        with pytest.raises(OSError, match=f"^{folder}: cannot keep a copy of {file.url}: "):
            read(files, file)
    else:
        assert matches(file, read(files, file))
        assert not (folder / name.format(file.sha256)).is_symlink()
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("name", [".{}.lock", "{}.shard"])
def test_a_pipe_in_the_folder_is_not_waited_for(source: Source, folder: Path, name: str) -> None:
    file = source.add("a")
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / name.format(file.sha256))
    files = FileCache(folder, 10**9, source.read_many)
    if "lock" in name:
        with pytest.raises(OSError, match="no regular file"):
            read(files, file)
    else:
        assert matches(file, read(files, file))


def test_the_folder_is_made_for_this_user_alone(source: Source, folder: Path) -> None:
    read(FileCache(folder, 10**9, source.read_many), source.add("a"))
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o1777, 0o770])
def test_a_folder_that_others_can_write_to_is_refused(
    source: Source, folder: Path, mode: int
) -> None:
    folder.mkdir()
    folder.chmod(mode)
    message = rf"^{folder}: cannot keep .*: others can write to the folder \(mode {mode:04o}\)"
    with pytest.raises(PermissionError, match=message):
        read(FileCache(folder, 10**9, source.read_many), source.add("a"))
    assert list(folder.iterdir()) == []
