"""Copies on a node's disk for many processes: one download, whoever is killed or deletes."""

import hashlib
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.help.object_store import environment
from tests.storage.cached_files import (
    BYTES,
    File,
    Source,
    go,
    hear,
    matches,
    names,
    read,
    result,
    sizes,
)
from tests.storage.faulty_bucket import Bucket
from tests.storage.faulty_proxy import Fault
from timbre.errors import ShardError
from timbre.storage import atomic_write
from timbre.storage import files as storage
from timbre.storage.cache import FileCache
from timbre.storage.remote import Span


def test_eight_processes_that_ask_at_once_download_each_file_once(
    source: Source, folder: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    files = [source.add(str(number), 5 * BYTES) for number in range(5)]
    order = {"folder": str(folder), "max_bytes": 10**9, "log": str(tmp_path / "log")}
    order["part_bytes"] = BYTES
    # All begin with the same file; later they are in each other's way in other ways.
    orders = [files[:1] + random.Random(n).sample(files[1:], 4) for n in range(8)]
    processes = [start(files=files, **order) for files in orders]
    for process in processes:
        hear(process, "ready")
    for process in processes:
        go(process)
    reports = [result(process) for process in processes]
    assert [one["wrong"] for one in reports] == [[]] * 8
    assert [one["hits"] + one["fetches"] for one in reports] == [5] * 8
    assert sum(one["fetches"] for one in reports) == 5
    assert sum(one["fetched_bytes"] for one in reports) == 25 * BYTES
    reads = (tmp_path / "log").read_text().splitlines()
    assert sorted(reads) == sorted(f"{f.url} {i * BYTES}" for f in files for i in range(5))
    assert sizes(folder) == {f"{file.sha256}.shard": file.length for file in files}


def test_from_a_faulty_bucket_three_processes_get_it_with_one_download(
    bucket: Bucket, folder: Path, start: Callable[..., Any]
) -> None:
    data = random.Random(1).randbytes(5 * BYTES)
    (bucket.folder / "a/shard").write_bytes(data)
    file = File(f"{bucket.url}/a/shard", len(data), hashlib.sha256(data).hexdigest())
    order = {"folder": str(folder), "max_bytes": 10**9, "log": "", "part_bytes": BYTES}
    env = environment(bucket.proxy.endpoint)
    processes = [start(env, files=[file], **order) for _ in range(3)]
    for process in processes:
        hear(process, "ready")
    bucket.proxy.fail(Fault("status", "GET", last=1), Fault("short", "GET", first=3, last=3))
    for process in processes:
        go(process)
    reports = [result(process) for process in processes]
    assert [one["wrong"] for one in reports] == [[]] * 3
    assert sorted((one["fetches"], one["hits"]) for one in reports) == [(0, 1), (0, 1), (1, 0)]
    # Five parts and two that had to be asked for again.
    assert bucket.proxy.count("GET", "a/shard") == 7


def test_another_content_in_the_bucket_is_told_with_both_hashes(
    bucket: Bucket, folder: Path
) -> None:
    def read_many(spans: Sequence[Span]) -> list[bytes]:
        return [storage.read_range(*span) for span in spans]

    url, expected = f"{bucket.url}/a/x", hashlib.sha256(b"other").hexdigest()
    sha256 = hashlib.sha256((bucket.folder / "a/x").read_bytes()).hexdigest()
    files = FileCache(folder, 10**9, read_many)
    with pytest.raises(ShardError) as failure:
        files.open(url, 5000, expected)
    assert str(failure.value) == (
        f"{url}: 5000 bytes of sha256 {sha256} came twice, expected 5000 of {expected}"
    )
    assert bucket.proxy.count("GET") == 2
    assert (files.fetches, files.fetched_bytes) == (0, 10_000)
    assert sizes(folder) == {}
    with pytest.raises(FileNotFoundError, match=f"^{bucket.url}/a/none: no such file$"):
        files.open(f"{bucket.url}/a/none", 5000, expected)
    assert sizes(folder) == {}


def test_what_a_forked_child_has_open_is_in_use_only_if_it_was_given_out(
    source: Source, folder: Path
) -> None:
    """A DataLoader forks its workers at any time, also while a thread downloads."""
    a, b, c = (source.add(name) for name in "abc")
    files = FileCache(folder, BYTES, source.read_many)
    wait, release = os.pipe()
    children = []

    def fork() -> None:
        if (child := os.fork()) == 0:
            os.close(release)
            os.read(wait, 1)
            os._exit(0)
        children.append(child)

    source.during = fork
    read(files, a)
    source.during = lambda: None
    try:
        read(files, b)  # a could be deleted
        handle = files.open(*b)
        assert handle is not None
        fork()
        handle.close()
        assert files.open(*c) is None
    finally:
        os.close(release)
        for child in children:
            os.waitpid(child, 0)
        os.close(wait)
    read(files, c)


def waits_for_a_lock(pid: int) -> bool:
    lines = Path("/proc/locks").read_text().splitlines()
    return any(f" {pid} " in line and "->" in line for line in lines)


def test_a_lock_that_is_deleted_while_it_is_waited_for_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    states = []

    def wait() -> None:
        with atomic_write.lock(path) as file:
            states.append((atomic_write.is_at(file, path), atomic_write.is_unlocked(path)))

    waiter = threading.Thread(target=wait)
    with atomic_write.lock(path):
        waiter.start()
        while not waits_for_a_lock(os.getpid()):
            assert waiter.is_alive()
        path.unlink()
    waiter.join()
    assert states == [(True, False)]
    assert atomic_write.is_unlocked(path)


def test_when_the_downloader_is_killed_the_next_one_downloads(
    source: Source, folder: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    file = source.add("a", 10 * BYTES)
    order = {"folder": str(folder), "max_bytes": 10 * BYTES, "log": str(tmp_path / "log")}
    order.update(files=[file], part_bytes=BYTES)
    first, other = start(stop_at=2, **order), start(**order)
    hear(first, "ready")
    go(first)
    hear(first, "reading")
    hear(other, "ready")
    go(other)
    while not waits_for_a_lock(other.pid):
        assert other.poll() is None
    assert {path.suffix for path in folder.iterdir()} == {".tmp", ".lock"}
    first.kill()
    # There is room for one only: what the killed one left is gone.
    report = result(other)
    assert (report["wrong"], report["fetches"], report["bypasses"]) == ([], 1, 0)
    assert set(sizes(folder)) == names(file)


def test_left_overs_go_and_what_is_not_ours_stays(
    source: Source, folder: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    a, b = source.add("a"), source.add("b")
    order = {"folder": str(folder), "max_bytes": BYTES, "log": str(tmp_path / "log")}
    process = start(stop_at=1, files=[a], **order)
    hear(process, "ready")
    go(process)
    hear(process, "reading")
    process.kill()
    process.wait()
    assert sorted(sizes(folder).values()) == [0, BYTES]
    foreign = {"x.tar", "0" * 64, f"{'0' * 63}.shard", ".lock", f".x.{'0' * 32}.tmp", "a.lock"}
    for name in foreign:
        (folder / name).write_bytes(b"x" * 10 * BYTES)
    (folder / "inner").mkdir()
    (folder / "inner" / f"{'0' * 64}.shard").touch()
    files = FileCache(folder, BYTES, source.read_many)
    read(files, b)
    assert set(sizes(folder)) == foreign | {"inner"} | names(b)
    assert list((folder / "inner").iterdir())


@pytest.mark.parametrize("what", ["folder", "content"])
@pytest.mark.parametrize("when", ["in use", "during a download"])
def test_deletion_by_others_is_safe(source: Source, folder: Path, what: str, when: str) -> None:
    def delete() -> None:
        source.during = lambda: None
        for path in folder.iterdir():
            path.unlink()
        if what == "folder":
            folder.rmdir()

    file = source.add("a")
    files = FileCache(folder, 10**9, source.read_many)
    if when == "during a download":
        source.during = delete
    handle = files.open(*file)
    assert handle is not None
    if when == "in use":
        delete()
    assert matches(file, read(files, file))
    assert matches(file, handle.read())
    handle.close()
    assert set(sizes(folder)) == names(file)
    assert len(source.reads) == 2
