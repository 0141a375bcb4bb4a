"""The shard contract: what is written is read back, and damage never passes."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from shard_tools.make.tar import build_tar
from shard_tools.verify.manifest import verify
from tests.help.made_shards import content, make_pair, make_shards
from timbre import shards, storage
from timbre.errors import ShardError
from timbre.shards import ShardEntry


@pytest.fixture
def manifest_url(tmp_path: Path) -> str:
    return make_shards(tmp_path / "shards", [3, 2], audio_format="flac")


def first_shard(url: str) -> tuple[str, ShardEntry]:
    return shards.folder_of(url), shards.load_manifest(url).shards("train")[0]


def test_a_pair_is_one_ranged_read_that_gives_its_samples(manifest_url: str) -> None:
    folder, shard = first_shard(manifest_url)
    for entry in shards.load_index(folder, shard).pairs:
        (data,) = shards.read_members(storage.join(folder, shard.path), entry, ["clean.flac"])
        clean = shards.decode_segment(data, 0, entry.samples, entry.key)
        np.testing.assert_array_equal(clean, content(entry.key, entry.samples))
        part = shards.decode_segment(data, 5000, 1000, entry.key)
        np.testing.assert_array_equal(part, clean[5000:6000])


def test_plain_webdataset_reads_the_shards_without_us(manifest_url: str) -> None:
    folder, shard = first_shard(manifest_url)
    samples = list(wds.WebDataset(f"{folder}/{shard.path}", shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"train-000000-{i:04d}" for i in range(3)]
    assert {"clean.flac", "degraded.flac", "pair.json"} <= samples[0].keys()
    assert json.loads(samples[0]["pair.json"])["alignment_offset"] == -90


def test_equal_pairs_give_equal_bytes() -> None:
    def build() -> bytes:
        return build_tar([make_pair("train-0-0", 9000, 3)], "flac")

    assert build() == build()


def test_pairs_without_a_noisy_side_give_the_bytes_that_they_gave_before_there_was_one() -> None:
    pairs = [make_pair(f"train-0-{i}", 9000, 3) for i in range(2)]
    sha256 = storage.sha256(build_tar(pairs, "wav"))
    assert sha256 == "db404326d184cc750f24fc3dbcce9412079be987384b204532d2852716e484c0"


def test_the_index_says_where_every_member_lies(manifest_url: str) -> None:
    folder, shard = first_shard(manifest_url)
    url = storage.join(folder, shard.path)
    with tarfile.open(url) as tar:
        expected = {member.name: (member.offset_data, member.size) for member in tar}
    places = {
        f"{entry.key}.{name}": (member.offset, member.length)
        for entry in shards.load_index(folder, shard).pairs
        for name, member in entry.members.items()
    }
    assert places == expected


@pytest.mark.parametrize(
    "where", ["in a header", "in audio", "between members", "between pairs", "in the end mark"]
)
def test_a_cut_tar_is_noticed_wherever_it_is_cut(manifest_url: str, where: str) -> None:
    folder, shard = first_shard(manifest_url)
    data = storage.read(storage.join(folder, shard.path))
    last = shards.load_index(folder, shard).pairs[-1].members
    clean, meta = last["clean.flac"], last["pair.json"]
    cuts = {
        "in a header": clean.offset - 200,
        "in audio": clean.offset + 100,
        "between members": last["degraded.flac"].offset - 512,
        "between pairs": clean.offset - 512,
        "in the end mark": meta.offset + meta.length + -meta.length % 512 + 512,
    }[where]
    with pytest.raises(ShardError, match="cut me"):
        shards.index_tar(data[:cuts], "cut me")


def test_a_flipped_bit_in_any_member_is_noticed_on_reading(manifest_url: str) -> None:
    folder, shard = first_shard(manifest_url)
    url = storage.join(folder, shard.path)
    whole = storage.read(url)
    entry = shards.load_index(folder, shard).pairs[1]
    for name, member in entry.members.items():
        content = bytearray(whole)
        content[member.offset + member.length // 2] ^= 4
        storage.publish(url, bytes(content))
        with pytest.raises(ShardError, match=f"{entry.key}.{name}"):
            shards.read_members(url, entry, [*entry.members])


def test_members_of_two_pairs_that_lie_mixed_are_refused() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ["a.clean.wav", "b.clean.wav", "a.degraded.wav"]:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ShardError, match=r"mixed: a: no member degraded.* lie together"):
        shards.index_tar(buffer.getvalue(), "mixed")


def test_a_pair_without_a_side_is_refused_by_name() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ["a.clean.wav", "a.pair.json"]:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ShardError, match="a: no member degraded"):
        shards.index_tar(buffer.getvalue(), "half")


def test_verify_passes_whole_shards_and_names_each_damaged_one(manifest_url: str) -> None:
    assert verify(manifest_url) == []
    folder, shard = first_shard(manifest_url)
    url = storage.join(folder, shard.path)
    whole = storage.read(url)
    member = shards.load_index(folder, shard).pairs[1].members["degraded.flac"]
    for damage in [
        whole[: len(whole) // 2],
        whole[: member.offset + 50] + b"\xff" + whole[member.offset + 51 :],
    ]:
        storage.publish(url, damage)
        assert any("shard-000000.tar" in fault for fault in verify(manifest_url))
    storage.remove(url)
    assert any("shard-000000.tar" in fault for fault in verify(manifest_url))
