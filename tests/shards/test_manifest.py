"""Manifests and indexes: damaged ones, and those that lie, are refused by name before they are used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.help.made_shards import make_shards
from timbre import shards, storage
from timbre.errors import ShardError
from timbre.shards import ShardEntry

Tree = dict[str, Any]


@pytest.fixture
def manifest_url(tmp_path: Path) -> str:
    return make_shards(tmp_path / "shards", [3, 2], audio_format="flac")


def first_shard(url: str) -> tuple[str, ShardEntry]:
    return shards.folder_of(url), shards.load_manifest(url).shards("train")[0]


def test_a_changed_index_or_manifest_is_refused(manifest_url: str) -> None:
    folder, shard = first_shard(manifest_url)
    url = storage.join(folder, shards.index_path(shard.path))
    storage.publish(url, storage.read(url).replace(b'"samples":12000', b'"samples":12001'))
    with pytest.raises(ShardError, match=r"shard-000000\.index"):
        shards.load_index(folder, shard)
    tree = json.loads(storage.read(manifest_url))
    for change, message in [
        ({"sample_rate": 16000}, "16000"),
        ({"schema": 99}, "schema"),
        ({"splits": 3}, "splits"),
    ]:
        storage.publish(manifest_url, json.dumps(tree | change).encode())
        with pytest.raises(ShardError, match=message):
            shards.load_manifest(manifest_url)


def test_an_unknown_split_is_told_with_those_there_are(manifest_url: str) -> None:
    with pytest.raises(ShardError, match="'test'; splits with shards: train, val"):
        shards.load_manifest(manifest_url).shards("test")


def shard_says(**fields: Any) -> Callable[[Tree], object]:
    return lambda tree: tree["splits"]["train"][0].update(fields)


MANIFEST_LIES: dict[str, tuple[Callable[[Tree], object], str]] = {
    "too many pairs": (shard_says(pairs=10**12), "train.0.pairs 1000000000000"),
    "fewer than no pairs": (shard_says(pairs=-3), "train.0.pairs -3"),
    "pairs of 5,000 digits": (shard_says(pairs=int("9" * 4000)), "manifest.json"),
    "fewer than no bytes": (shard_says(bytes=-1), "train.0.bytes -1"),
    "endless seconds": (shard_says(seconds=float("inf")), "train.0.seconds"),
    "no hash": (shard_says(sha256="../../x"), "train.0.sha256"),
    "a path out": (shard_says(path="../x/a.tar"), "train.0.path '../x/a.tar'.*below"),
    "a path out, later": (shard_says(path="train/../../a.tar"), "train.0.path"),
    "an absolute path": (shard_says(path="/etc/a.tar"), "train.0.path"),
    "a URL": (shard_says(path="http://host/a.tar"), "train.0.path"),
    "a chain": (shard_says(path="train/a::b.tar"), "train.0.path"),
    "a NUL": (shard_says(path="train/a\0.tar"), "train.0.path"),
    "a shard twice": (
        lambda tree: tree["splits"]["train"].append(tree["splits"]["train"][0]),
        "shard-000000.tar is listed twice",
    ),
    "fewer than no samples": (lambda tree: tree.update(save_segment_seconds=-1.0), "save_segment"),
    "deep nesting": (lambda tree: tree.update(config=nest(5000)), "manifest.json"),
}


def nest(depth: int) -> str:
    return "@" + "[" * depth + "]" * depth


@pytest.mark.parametrize("kind", MANIFEST_LIES)
def test_a_manifest_that_lies_is_refused_by_name(manifest_url: str, kind: str) -> None:
    change, message = MANIFEST_LIES[kind]
    tree = json.loads(storage.read(manifest_url))
    change(tree)
    text = json.dumps(tree)
    if (at := text.find('"@[')) >= 0:  # what json.dumps itself cannot write
        text = text[:at] + text[at + 2 :].replace(']"', "]", 1)
    storage.publish(manifest_url, text.encode())
    with pytest.raises(ShardError, match=message):
        shards.load_manifest(manifest_url)


def pair_says(**fields: Any) -> Callable[[Tree], object]:
    return lambda tree: tree["pairs"][1].update(fields)


def member_says(offset: int, length: int, crc: int = 0) -> Callable[[Tree], object]:
    return lambda tree: tree["pairs"][1]["members"].update({"clean.flac": [offset, length, crc]})


INDEX_LIES: dict[str, tuple[Callable[[Tree], object], str]] = {
    "a member of 10^15 bytes": (member_says(512, 10**15), "clean.flac: 1000000000000000 bytes at"),
    "a member beyond the end": (member_says(10**9, 1), "clean.flac: 1 bytes at 1000000000"),
    "a member before the start": (member_says(-1, 1), "pairs.1.members.clean.flac.0 -1"),
    "a member of less than nothing": (member_says(512, -1), "clean.flac.1 -1"),
    "no CRC": (member_says(512, 1, -1), "clean.flac.2 -1"),
    "an offset beyond the samples": (
        pair_says(alignment_offset=10**9),
        "alignment_offset 1000000000",
    ),
    "fewer than no samples": (pair_says(samples=-5), "pairs.1.samples -5"),
    "endless samples": (pair_says(samples=2**60), "pairs.1.samples"),
    "no bandwidth": (pair_says(bandwidth_hz=0.0), "pairs.1.bandwidth_hz 0.0"),
    "a tar of less than nothing": (lambda tree: tree.update(tar_bytes=-1), "tar_bytes -1"),
    "a number for a list": (lambda tree: tree.update(pairs=10**12), "pairs 1000000000000"),
}


@pytest.mark.parametrize("kind", INDEX_LIES)
def test_an_index_that_lies_is_refused_by_name(manifest_url: str, kind: str) -> None:
    change, message = INDEX_LIES[kind]
    folder, shard = first_shard(manifest_url)
    url = storage.join(folder, shards.index_path(shard.path))
    tree = json.loads(storage.read(url))
    change(tree)
    data = json.dumps(tree).encode()
    storage.publish(url, data)
    manifest = json.loads(storage.read(manifest_url))
    manifest["splits"]["train"][0]["index_sha256"] = storage.sha256(data)
    storage.publish(manifest_url, json.dumps(manifest).encode())
    folder, shard = first_shard(manifest_url)
    with pytest.raises(ShardError, match=rf"shard-000000\.index: .*{message}"):
        shards.load_index(folder, shard)
