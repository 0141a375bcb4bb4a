"""Indexes of other people's tars: several at a time, each published when it is whole."""

import mmap
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from tqdm import tqdm

from timbre import storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import ShardError
from timbre.processes import run_tasks
from timbre.shards.manifest import check_index, index_path
from timbre.shards.records import ShardEntry, ShardIndex, from_json, to_json
from timbre.shards.tar import index_tar
from timbre.storage import FileStat

# Each holds one tar, of a remote store in memory.
TARS_AT_ONCE = 4


def index_tars(
    folder: str, home: str, tars: list[FileStat], edits: Set[str], jobs: int
) -> list[tuple[ShardEntry, ShardIndex]]:
    """Return the entry and the index of each tar, in their order; progress is shown in bytes."""
    work = partial(_index, folder, home, edits)
    total = sum(tar.bytes for tar in tars)
    with tqdm(desc="index", total=total, unit="B", unit_scale=True, disable=None) as bar:
        done: dict[str, tuple[ShardEntry, ShardIndex]] = {}
        for tar, indexed in run_tasks(work, tars, jobs) if jobs else _by_threads(work, tars):
            done[tar.path] = indexed
            bar.update(tar.bytes)
    return [done[tar.path] for tar in tars]


def _by_threads(
    work: Callable[[FileStat], tuple[ShardEntry, ShardIndex]], tars: list[FileStat]
) -> Iterator[tuple[FileStat, tuple[ShardEntry, ShardIndex]]]:
    with ThreadPoolExecutor(TARS_AT_ONCE) as pool:
        yield from zip(tars, pool.map(work, tars), strict=True)


def _index(folder: str, home: str, edits: Set[str], tar: FileStat) -> tuple[ShardEntry, ShardIndex]:
    url = storage.join(folder, tar.path)
    index_url = storage.join(home, index_path(tar.path))
    data = b""
    if tar.path not in edits:
        with suppress(FileNotFoundError):
            data = storage.read(index_url)
    index = fitting_index(data, index_url, tar.bytes)
    if index is None:
        index = _derive_index(url)
        data = to_json(index)
        storage.publish(index_url, data)
    seconds = sum(pair.samples for pair in index.pairs) / SAMPLE_RATE
    entry = ShardEntry(
        path=tar.path,
        pairs=len(index.pairs),
        bytes=index.tar_bytes,
        seconds=seconds,
        sha256=index.tar_sha256,
        index_sha256=storage.sha256(data),
    )
    return entry, index


def fitting_index(data: bytes, url: str, tar_bytes: int) -> ShardIndex | None:
    """Return the index in ``data`` if it is one, and of a tar of this size."""
    try:
        index = check_index(from_json(ShardIndex, data, url), url)
    except ShardError:  # another program's, another version's, or none: it is made anew
        return None
    return index if index.tar_bytes == tar_bytes else None


def _derive_index(url: str) -> ShardIndex:
    if not storage.is_local(url) or not storage.size(url):
        return index_tar(storage.read(url), url)
    with (
        storage.local_path(url).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        return index_tar(data, url)
