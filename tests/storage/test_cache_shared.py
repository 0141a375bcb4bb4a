"""Copies on a node's disk: one download for all processes, right bytes, never above the limit."""

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.help.object_store import environment
from tests.storage.faulty_bucket import Bucket
from tests.storage.faulty_proxy import Fault
from timbre.errors import ShardError
from timbre.storage import atomic_write, cache
from timbre.storage import files as storage
from timbre.storage.cache import FileCache
from timbre.storage.remote import Span

BYTES = 20_000


class File(NamedTuple):
    url: str
    length: int
    sha256: str


class Source:
    """Files as a store has them; counts what is read of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.reads: list[list[Span]] = []
        self.during: Callable[[], Any] = lambda: None

    def add(self, name: str, length: int = BYTES) -> File:
        data = random.Random(name).randbytes(length)
        (self.folder / name).write_bytes(data)
        return File(str(self.folder / name), length, hashlib.sha256(data).hexdigest())

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        self.reads.append(list(spans))
        self.during()
        return [storage.read_range(*span) for span in spans]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "source")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts processes of ``cache_process`` that are ready to begin."""
    with ExitStack() as stack:

        def begin(env: dict[str, str] | None = None, **order: Any) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.storage.cache_process", json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env={**os.environ, **(env or {})},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


def hear(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout
    assert process.stdout.readline() == f"{word}\n"


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("go\n")


def result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout
    told: dict[str, Any] = json.loads(process.stdout.readline())
    assert process.wait() == 0
    return told


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()} if folder.exists() else {}


def names(*files: File) -> set[str]:
    return {f"{file.sha256}.shard" for file in files}


def age(folder: Path, file: File, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder / f"{file.sha256}.shard", (then, then))


def read(files: FileCache, file: File) -> bytes:
    opened = files.open(*file)
    assert opened is not None
    with opened:
        return opened.read()


def matches(file: File, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == file.sha256


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
    told = [result(process) for process in processes]
    assert [one["wrong"] for one in told] == [[]] * 8
    assert [one["hits"] + one["fetches"] for one in told] == [5] * 8
    assert sum(one["fetches"] for one in told) == 5
    assert sum(one["fetched_bytes"] for one in told) == 25 * BYTES
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
    told = [result(process) for process in processes]
    assert [one["wrong"] for one in told] == [[]] * 3
    assert sorted((one["fetches"], one["hits"]) for one in told) == [(0, 1), (0, 1), (1, 0)]
    # Five parts and two that had to be asked for again.
    assert bucket.proxy.count("GET", "a/shard") == 7


def test_another_content_in_the_bucket_is_told_with_both_hashes(
    bucket: Bucket, folder: Path
) -> None:
    def read_many(spans: Sequence[Span]) -> list[bytes]:
        return [storage.read_range(*span) for span in spans]

    url, expected = f"{bucket.url}/a/x", hashlib.sha256(b"other").hexdigest()
    found = hashlib.sha256((bucket.folder / "a/x").read_bytes()).hexdigest()
    files = FileCache(folder, 10**9, read_many)
    with pytest.raises(ShardError) as told:
        files.open(url, 5000, expected)
    assert str(told.value) == (
        f"{url}: 5000 bytes of sha256 {found} came twice, expected 5000 of {expected}"
    )
    assert bucket.proxy.count("GET") == 2
    assert (files.fetches, files.fetched_bytes) == (0, 10_000)
    assert sizes(folder) == {}
    with pytest.raises(FileNotFoundError, match=f"^{bucket.url}/a/none: no such file$"):
        files.open(f"{bucket.url}/a/none", 5000, expected)
    assert sizes(folder) == {}


def test_with_a_cache_smaller_than_what_is_read_the_disk_never_holds_more(
    source: Source, folder: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    folder.mkdir()
    files = [source.add(str(number), BYTES + 1000 * number) for number in range(8)]
    limit = 3 * (BYTES + 7000)
    order = {"folder": str(folder), "max_bytes": limit, "log": str(tmp_path / "log")}
    order["part_bytes"] = BYTES // 4
    watcher = start(folder=str(folder))
    orders = [random.Random(n).choices(files, k=60) for n in range(4)]
    processes = [start(files=files, **order) for files in orders]
    for process in [watcher, *processes]:
        hear(process, "ready")
        go(process)
    told = [result(process) for process in processes]
    assert sum(one["fetches"] for one in told) > 10  # it was smaller than what is read
    assert sum(one["hits"] for one in told) > 10
    assert [one["wrong"] for one in told] == [[]] * 4
    go(watcher)
    seen = result(watcher)
    assert seen["looks"] > 1
    assert 2 * BYTES < seen["most"] <= limit
    assert seen["partial"] == []
    assert {name for name in sizes(folder) if not name.endswith(".shard")} == set()


def test_what_was_used_longest_ago_goes_first(source: Source, folder: Path) -> None:
    a, b, c, d, e = (source.add(name) for name in "abcde")
    files = FileCache(folder, 3 * BYTES, source.read_many)
    for file, seconds in [(b, 200), (c, 100), (a, 300)]:
        read(files, file)
        age(folder, file, seconds)
    read(files, a)
    read(files, d)
    assert set(sizes(folder)) == names(a, c, d)
    read(files, e)
    assert set(sizes(folder)) == names(a, d, e)
    assert (files.hits, files.fetches, files.bypasses) == (1, 5, 0)


def test_no_more_copies_go_than_have_to(source: Source, folder: Path) -> None:
    files = FileCache(folder, 3 * BYTES, source.read_many)
    a, b, c, small = (*(source.add(name) for name in "abc"), source.add("small", 10))
    for file in (a, b, c, small):
        read(files, file)
    assert len(sizes(folder)) == 3
    read(files, source.add("small too", BYTES - 10))
    assert len(sizes(folder)) == 4


def test_the_time_of_use_is_written_once_a_minute(source: Source, folder: Path) -> None:
    file = source.add("a")
    files = FileCache(folder, 10**9, source.read_many)
    read(files, file)
    path = folder / f"{file.sha256}.shard"
    for seconds, written in [(30, False), (90, True), (-90, True)]:
        age(folder, file, seconds)
        before = path.stat().st_mtime
        read(files, file)
        assert (path.stat().st_mtime != before) == written
        assert written == (abs(path.stat().st_mtime - time.time()) < 20)


def test_a_file_in_use_stays_and_nothing_goes_in_vain(source: Source, folder: Path) -> None:
    a, b, c = (source.add(name) for name in "abc")
    large = source.add("large", 2 * BYTES)
    files = FileCache(folder, 2 * BYTES, source.read_many)
    other = FileCache(folder, 2 * BYTES, source.read_many)
    held = files.open(*a)
    assert held is not None
    read(files, b)
    age(folder, a, 1000)
    assert other.open(*large) is None
    assert set(sizes(folder)) == names(a, b)
    read(other, c)
    assert set(sizes(folder)) == names(a, c)
    held.close()
    read(other, large)
    assert set(sizes(folder)) == names(large)
    assert (files.bypasses, other.bypasses, other.fetches) == (0, 1, 2)


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
        held = files.open(*b)
        assert held is not None
        fork()
        held.close()
        assert files.open(*c) is None
    finally:
        os.close(release)
        for child in children:
            os.waitpid(child, 0)
        os.close(wait)
    read(files, c)


def test_a_file_larger_than_the_limit_is_left_to_the_caller(source: Source, folder: Path) -> None:
    file = source.add("a")
    small, large = (FileCache(folder, limit, source.read_many) for limit in (BYTES - 1, BYTES))
    assert small.open(*file) is None
    assert (small.bypasses, source.reads, folder.exists()) == (1, [], False)
    assert matches(file, read(large, file))
    assert matches(file, read(small, file))  # by now it is there


def test_a_lower_limit_of_another_run_is_kept_by_it(source: Source, folder: Path) -> None:
    first = FileCache(folder, 10**9, source.read_many)
    files = [source.add(str(number)) for number in range(5)]
    for number, file in enumerate(files):
        read(first, file)
        age(folder, file, 1000 - number)
    new = source.add("new")
    read(FileCache(folder, 3 * BYTES, source.read_many), new)
    assert set(sizes(folder)) == names(*files[3:], new)


def waits_for_a_lock(pid: int) -> bool:
    lines = Path("/proc/locks").read_text().splitlines()
    return any(f" {pid} " in line and "->" in line for line in lines)


def test_a_lock_that_is_deleted_while_it_is_waited_for_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    found = []

    def wait() -> None:
        with atomic_write.locked(path) as file:
            found.append((atomic_write.is_at(file, path), atomic_write.is_unlocked(path)))

    waiter = threading.Thread(target=wait)
    with atomic_write.locked(path):
        waiter.start()
        while not waits_for_a_lock(os.getpid()):
            assert waiter.is_alive()
        path.unlink()
    waiter.join()
    assert found == [(True, False)]
    assert atomic_write.is_unlocked(path)


def test_when_the_downloader_is_killed_the_next_one_downloads(
    source: Source, folder: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    file = source.add("a", 10 * BYTES)
    order = {"folder": str(folder), "max_bytes": 10 * BYTES, "log": str(tmp_path / "log")}
    order.update(files=[file], part_bytes=BYTES)
    killed, other = start(stop_at=2, **order), start(**order)
    hear(killed, "ready")
    go(killed)
    hear(killed, "reading")
    hear(other, "ready")
    go(other)
    while not waits_for_a_lock(other.pid):
        assert other.poll() is None
    assert {path.suffix for path in folder.iterdir()} == {".tmp", ".lock"}
    killed.kill()
    # There is room for one only: what the killed one left is gone.
    told = result(other)
    assert (told["wrong"], told["fetches"], told["bypasses"]) == ([], 1, 0)
    assert set(sizes(folder)) == names(file)


def test_left_overs_go_and_what_is_not_ours_stays(
    source: Source, folder: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    a, b = source.add("a"), source.add("b")
    order = {"folder": str(folder), "max_bytes": BYTES, "log": str(tmp_path / "log")}
    killed = start(stop_at=1, files=[a], **order)
    hear(killed, "ready")
    go(killed)
    hear(killed, "reading")
    killed.kill()
    killed.wait()
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
    held = files.open(*file)
    assert held is not None
    if when == "in use":
        delete()
    assert matches(file, read(files, file))
    assert matches(file, held.read())
    held.close()
    assert set(sizes(folder)) == names(file)
    assert len(source.reads) == 2


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
    held = files.open(*file)
    assert held is not None
    with path.open("r+b") as damaged:
        damaged.write(b"damage")
    files.discard(file.sha256)
    files.discard(file.sha256)
    assert sizes(folder) == {}
    assert matches(file, read(files, file))
    assert held.read().startswith(b"damage")
    held.close()
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
    for opened in (files.open(*file), files.open(*file)):
        assert opened is not None
        assert not opened.writable()
        opened.close()


@pytest.fixture
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of 1 MB."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
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
    told = f"^{tmp_path}/file/cache: cannot keep a copy of .*: {os.strerror(errno.ENOTDIR)}$"
    with pytest.raises(OSError, match=told):
        FileCache(tmp_path / "file" / "cache", 10**9, source.read_many).open(*source.add("a"))
