"""Copies on a node's disk never exceed the limit, and a file in use stays."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.storage.cached_files import (
    BYTES,
    Source,
    age,
    go,
    hear,
    matches,
    names,
    read,
    result,
    sizes,
)
from timbre.storage.cache import FileCache


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
    reports = [result(process) for process in processes]
    assert sum(one["fetches"] for one in reports) > 10  # it was smaller than what is read
    assert sum(one["hits"] for one in reports) > 10
    assert [one["wrong"] for one in reports] == [[]] * 4
    go(watcher)
    watch = result(watcher)
    assert watch["looks"] > 1
    assert 2 * BYTES < watch["most"] <= limit
    assert watch["partial"] == []
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
    for seconds, is_new in [(30, False), (90, True), (-90, True)]:
        age(folder, file, seconds)
        before = path.stat().st_mtime
        read(files, file)
        assert (path.stat().st_mtime != before) == is_new
        assert is_new == (abs(path.stat().st_mtime - time.time()) < 20)


def test_a_file_in_use_stays_and_nothing_goes_in_vain(source: Source, folder: Path) -> None:
    a, b, c = (source.add(name) for name in "abc")
    large = source.add("large", 2 * BYTES)
    files = FileCache(folder, 2 * BYTES, source.read_many)
    other = FileCache(folder, 2 * BYTES, source.read_many)
    handle = files.open(*a)
    assert handle is not None
    read(files, b)
    age(folder, a, 1000)
    assert other.open(*large) is None
    assert set(sizes(folder)) == names(a, b)
    read(other, c)
    assert set(sizes(folder)) == names(a, c)
    handle.close()
    read(other, large)
    assert set(sizes(folder)) == names(large)
    assert (files.bypasses, other.bypasses, other.fetches) == (0, 1, 2)


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
