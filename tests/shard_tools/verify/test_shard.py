"""One shard checked: every kind of damage is named, with its shard and pair."""

import io
import json
import resource
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shard_tools.make.tar import FinishedPair, build_tar
from shard_tools.verify.manifest import check_manifest, verify
from tests.help.made_shards import (
    make_pair,
    make_shards,
    publish_tar,
    rewrite_shard,
    stored_pairs,
    three_quarters,
)
from tests.shard_tools.verify.damage import OTHER, OTHER_KEY, TRAIN, pair_entry, tar_url
from timbre import shards
from timbre.audio import SAMPLE_RATE, encode_int16
from timbre.storage import files as storage


def test_a_tar_cut_or_flipped_anywhere_is_noticed(manifest_url: str) -> None:
    """At 60 random places, headers, audio and padding alike."""
    url = tar_url(manifest_url)
    whole = storage.read(url)
    rng = np.random.default_rng(4)
    for place in rng.integers(0, len(whole), 30).tolist():
        with_flip = bytearray(whole)
        with_flip[place] ^= 1 << int(rng.integers(8))
        for content in (whole[:place], bytes(with_flip)):
            storage.publish(url, content)
            faults = check_manifest(manifest_url).faults
            assert {fault.kind for fault in faults} >= {"tar"}, place
            assert {fault.shard.partition(".")[0] for fault in faults} == {"train/shard-000000"}


def test_the_pairs_that_a_cut_tar_lost_are_named(manifest_url: str) -> None:
    url = tar_url(manifest_url)
    storage.publish(url, storage.read(url)[: pair_entry(manifest_url, 2).members["pair.json"][0]])
    faults = verify(manifest_url)
    assert f"{TRAIN}: 1 of its pairs are cut off or damaged: train-000000-0002" in faults


def test_a_flipped_bit_is_traced_to_its_pair_and_member(manifest_url: str) -> None:
    entry = pair_entry(manifest_url)
    data = bytearray(storage.read(tar_url(manifest_url)))
    data[entry.members["degraded.flac"].offset + 3000] ^= 1
    storage.publish(tar_url(manifest_url), bytes(data))
    faults = [fault for fault in check_manifest(manifest_url).faults if fault.pair == entry.key]
    assert any("degraded.flac" in fault.message and "CRC-32" in fault.message for fault in faults)


@pytest.mark.parametrize("path", [TRAIN, shards.index_path(TRAIN)])
def test_a_missing_file_is_named(manifest_url: str, path: str) -> None:
    storage.remove(tar_url(manifest_url, path))
    assert [(f.kind, f.shard) for f in check_manifest(manifest_url).faults] == [("missing", path)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 999}, "samples 999, but the tar has 12007"),
        ({"alignment_offset": 5}, "alignment_offset 5, but the tar has 0"),
        ({"bandwidth_hz": 8000.0}, "bandwidth_hz 8000.0, but the tar has 20000.0"),
        ({"key": "else"}, "it is in the index, but not in the tar"),
    ],
)
def test_an_index_that_does_not_describe_its_tar_is_a_fault(
    manifest_url: str, change: dict[str, object], message: str
) -> None:
    url = tar_url(manifest_url)
    pairs = shards.index_tar(storage.read(url), url).pairs
    rewrite_shard(manifest_url, TRAIN, pairs=(pairs[0], replace(pairs[1], **change), pairs[2]))
    faults = [fault for fault in check_manifest(manifest_url).faults if fault.kind == "index"]
    assert message in {fault.message for fault in faults}
    assert {fault.shard for fault in faults} == {"train/shard-000000.index"}


def test_a_key_twice_in_a_row_does_not_hide_a_pair(manifest_url: str) -> None:
    pair = make_pair("train-000000-0000", 12000, 0)
    other = FinishedPair(pair.meta, pair.degraded, pair.clean)
    storage.publish(tar_url(manifest_url), build_tar([pair, other], "flac"))
    faults = [fault.message for fault in check_manifest(manifest_url).faults]
    assert any("stands twice" in message for message in faults)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": 9}, "schema 9"),
        ({"key": "another"}, "its meta is that of another"),
        ({"samples": 11000}, "samples, but its meta says 11000"),
    ],
)
def test_a_wrong_meta_is_a_fault(
    manifest_url: str, fields: dict[str, object], message: str
) -> None:
    data = storage.read(tar_url(manifest_url))
    name = stored_pairs(manifest_url, TRAIN)[0].meta.key
    publish_tar(manifest_url, TRAIN, replace_member(data, f"{name}.pair.json", **fields))
    faults = verify(manifest_url)
    assert any(message in fault and name in fault for fault in faults)


def replace_member(data: bytes, name: str, content: bytes = b"", **fields: object) -> bytes:
    """Return the tar with one member's content replaced, or its JSON changed."""
    target = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for info in old:
            file = old.extractfile(info)
            assert file
            body = file.read()
            if info.name == name:
                body = json.dumps({**json.loads(body), **fields}).encode() if fields else content
            info.size = len(body)
            new.addfile(info, io.BytesIO(body))
    return target.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not audio", "cannot be decoded"),
        (encode_int16(np.ones(12000, np.int16), 16000, "flac"), "16000 Hz"),
        (encode_int16(np.ones((2, 12000), np.int16), SAMPLE_RATE, "flac"), "2 channels"),
        (encode_int16(np.ones(11999, np.int16), SAMPLE_RATE, "flac"), "11999 samples"),
        (encode_int16(np.ones(12001, np.int16), SAMPLE_RATE, "flac"), "12001 samples"),
    ],
    ids=["not audio", "another rate", "stereo", "too short", "too long"],
)
def test_audio_of_another_kind_or_length_is_a_fault(
    manifest_url: str, content: bytes, message: str
) -> None:
    name = "train-000000-0000.degraded.flac"
    data = replace_member(storage.read(tar_url(manifest_url)), name, content)
    publish_tar(manifest_url, TRAIN, data)
    faults = [fault for fault in check_manifest(manifest_url).faults if fault.kind == "audio"]
    assert len(faults) == 1
    assert message in faults[0].message and faults[0].pair == "train-000000-0000"


def test_a_length_that_a_header_makes_up_takes_no_memory(manifest_url: str) -> None:
    """2**35 samples would be 64 GiB, more than this process is allowed here."""
    name = "train-000000-0000.clean.flac"
    data = storage.read(tar_url(manifest_url))
    entry = pair_entry(manifest_url, 0)
    at = entry.members["clean.flac"]
    flac = bytearray(data[at.offset : at.offset + at.length])
    flac[8 + 13] ^= 0b1000  # "fLaC", a block's header, then STREAMINFO: its 36 bits of samples
    publish_tar(manifest_url, TRAIN, replace_member(data, name, bytes(flac)))
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (32 << 30, limit[1]))
    try:
        faults = check_manifest(manifest_url).faults
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert [(fault.kind, fault.pair) for fault in faults] == [("audio", entry.key)]
    assert "clean.flac" in faults[0].message


def test_the_noisy_side_is_checked_like_the_others(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [3, 2], audio_format="flac", noisy=True)
    assert verify(url) == []
    rewrite_shard(url, OTHER, lambda pair: pair._replace(noisy=three_quarters(pair.clean)[:-5]))
    data = bytearray(storage.read(tar_url(url)))
    data[pair_entry(url).members["noisy.flac"].offset + 3000] ^= 1
    storage.publish(tar_url(url), bytes(data))
    messages = {(fault.kind, fault.pair): fault.message for fault in check_manifest(url).faults}
    assert (
        "noisy.flac: 11995 samples, but its meta says 12000"
        in messages["audio", f"{OTHER_KEY}-0000"]
    )
    assert "noisy.flac" in messages["index", "train-000000-0001"]
    assert "CRC-32" in messages["index", "train-000000-0001"]


def test_verify_passes_whole_shards_and_names_what_is_damaged(
    manifest_url: str, tmp_path: Path
) -> None:
    assert verify(manifest_url) == []
    shutil.copytree(Path(manifest_url).parent, tmp_path, dirs_exist_ok=True)
    shard = shards.load_manifest(manifest_url).shards("train")[0]
    data = bytearray((tmp_path / shard.path).read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / shard.path).write_bytes(data)
    faults = verify(f"{tmp_path}/manifest.json")
    stem = shard.path.removesuffix(".tar")
    assert any("sha256" in fault for fault in faults)
    assert all(fault.startswith(stem) for fault in faults)
