"""Shards that timbre did not write: indexes and a manifest for a folder of WebDataset tars.

They are made on first use and lie beside the tars from then on, so that such a folder is read like
any other. Tars in ``FOLDER/train`` and ``FOLDER/val`` belong to that split, those in ``FOLDER``
itself to ``train``. Of each pair's ``pair.json`` only ``alignment_offset`` is needed; ``samples`` and
``bandwidth_hz`` are taken where they are there.
"""

import mmap
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tqdm import tqdm

from timbre import storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import ShardError
from timbre.shards.manifest import index_path, load_manifest, manifest_url
from timbre.shards.records import (
    SCHEMA,
    AudioFormat,
    Manifest,
    PairEntry,
    ShardEntry,
    ShardIndex,
    from_json,
    to_json,
)
from timbre.shards.tar import audio_member, index_tar
from timbre.storage import FileStat

SPLITS = ("train", "val")
# Each holds one tar, of a remote store in memory.
TARS_AT_ONCE = 4


def open_or_adopt(url: str) -> Manifest:
    """Return the manifest at ``url``; where it is a folder of tars without one, make it.

    Raises:
        FileNotFoundError: there is neither a manifest nor a tar.
        ShardError: the manifest, or a tar, is damaged or holds something else.
        OSError: something cannot be read, or what was made cannot be written beside the tars.
    """
    try:
        return load_manifest(url)
    except FileNotFoundError:
        if url.endswith(".json") or not (found := _find_tars(url)):
            raise
    return adopt(url, found)


def adopt(folder: str, found: list[FileStat]) -> Manifest:
    """Index the tars that were found below a folder, publish the manifest beside them, return it.

    An index that is there and fits its tar is taken as it is, so what was interrupted goes on.
    """
    with ThreadPoolExecutor(TARS_AT_ONCE) as pool:
        indexed = pool.map(partial(_index, folder), found)
        entries = list(tqdm(indexed, "index", len(found), unit="shard", disable=None))
    splits: dict[str, list[ShardEntry]] = defaultdict(list)
    formats, shortest = set(), float("inf")
    for entry, index in entries:
        if index.pairs:
            split = entry.path.rpartition("/")[0] or SPLITS[0]
            splits[split].append(entry)
            formats |= {_audio_format(index, entry.path)}
            shortest = min(shortest, *(pair.samples for pair in index.pairs))
    if not splits:
        raise ShardError(f"{folder}: {len(found)} tars without a single pair")
    manifest = Manifest(
        schema=SCHEMA,
        version=1,
        sample_rate=SAMPLE_RATE,
        audio_format="wav" if "wav" in formats else "flac",
        save_segment_seconds=shortest / SAMPLE_RATE,
        splits={split: tuple(listed) for split, listed in splits.items()},
        rejected={},
        clips={},
        hashes={},
        config={},
    )
    storage.publish(manifest_url(folder), to_json(manifest))
    return manifest


def _find_tars(folder: str) -> list[FileStat]:
    places = ("", *SPLITS)
    return [
        file
        for file in storage.find_files(folder)
        if file.path.endswith(".tar") and file.path.rpartition("/")[0] in places
    ]


def _index(folder: str, tar: FileStat) -> tuple[ShardEntry, ShardIndex]:
    url = storage.join(folder, tar.path)
    index_url = index_path(url)
    data = storage.read(index_url) if storage.exists(index_url) else b""
    index = _fitting(data, index_url, tar.bytes)
    if index is None:
        index = _derive_index(url)
        for pair in index.pairs:
            _check(pair, url)
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


def _fitting(data: bytes, url: str, tar_bytes: int) -> ShardIndex | None:
    """Return the index in ``data`` if it is one, and of a tar of this size."""
    try:
        index = from_json(ShardIndex, data, url)
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


def _check(pair: PairEntry, url: str) -> None:
    if not 0 <= abs(pair.alignment_offset) < pair.samples or pair.bandwidth_hz <= 0:
        raise ShardError(
            f"{url}: {pair.key}: samples {pair.samples}, alignment_offset {pair.alignment_offset}, "
            f"bandwidth_hz {pair.bandwidth_hz:g}: expected an offset within the samples, and a bandwidth"
        )


def _audio_format(index: ShardIndex, path: str) -> AudioFormat:
    member = audio_member(index.pairs[0].members, "clean")
    ending = member.rpartition(".")[2]
    if ending not in ("flac", "wav"):
        raise ShardError(f"{path}: {index.pairs[0].key}.{member}: expected .flac or .wav")
    return "flac" if ending == "flac" else "wav"
