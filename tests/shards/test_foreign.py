"""Tars that another program wrote: indexed on first use, then read like our own."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import webdataset as wds

from shard_tools.verify.manifest import verify
from tests.help.made_shards import content, half_at_offset, make_shards
from timbre import shards
from timbre.errors import ShardError
from timbre.peek.command import main as peek
from timbre.shards.corpus import Corpus, DataSource, open_corpus
from timbre.storage import files as storage
from timbre.stream import PairStream, StreamConfig

SAMPLES, OFFSET = 6000, 40


def encode(wave: Any, format: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 48_000, format=format, subtype="PCM_16")
    return buffer.getvalue()


def pairs(first: int, count: int, meta: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """What a user gives to WebDataset's writer."""
    for number in range(first, first + count):
        key = f"talk/{number:03d}"
        clean = content(key, SAMPLES)
        yield {
            "__key__": key,
            "clean.flac": encode(clean, "FLAC"),
            "degraded.flac": encode(half_at_offset(clean, OFFSET), "FLAC"),
            "pair.json": meta or {"alignment_offset": OFFSET, "room": "a hall"},
        }


def write(path: Path, samples: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wds.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tars to train on, one of them without a folder for its split, and one to validate with."""
    write(tmp_path / "shards/train/a.tar", pairs(0, 5))
    write(tmp_path / "shards/b.tar", pairs(5, 4))
    write(tmp_path / "shards/val/c.tar", pairs(9, 2))
    return tmp_path / "shards"


def corpus(folder: Any, split: str = "train") -> Corpus:
    return open_corpus(DataSource(str(folder)), split)


def test_foreign_tars_are_served_aligned(folder: Path) -> None:
    assert [shard.path for shard in corpus(folder).shards] == ["b.tar", "train/a.tar"]
    assert [shard.path for shard in corpus(folder, "val").shards] == ["val/c.tar"]
    keys = set()
    for batch in islice(PairStream([corpus(folder)], StreamConfig(4800, 3, 0, 2, 1)), 3):
        keys |= set(batch.keys)
        np.testing.assert_array_equal(batch.degraded, batch.clean // 2)
        for key, clean in zip(batch.keys, batch.clean.numpy(), strict=True):
            windows = np.lib.stride_tricks.sliding_window_view(content(key, SAMPLES), 4800)
            assert (windows == clean).all(axis=1).any()
    assert keys == {f"talk/{number:03d}" for number in range(9)}


def test_indexes_are_made_once_and_our_tools_read_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert peek([str(folder), "--global-batch", "3"]) == 0
    assert capsys.readouterr().out.count("talk/") == 9
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert sorted(path.name for path in stamps if path.suffix != ".tar") == [
        "a.index", "b.index", "c.index", "manifest.json", "tars.stamps"
    ]  # fmt: skip
    before = corpus(folder)
    (folder / "manifest.json").unlink()
    assert corpus(folder) == before
    for path in (path for path in stamps if path.suffix == ".index"):
        assert path.stat().st_mtime_ns == stamps[path]
    # What only our own shards say is missing, and that is no fault.
    assert verify(f"{folder}/manifest.json") == []


def test_our_own_shards_are_read_without_their_indexes_and_manifest(tmp_path: Path) -> None:
    make_shards(tmp_path, [5, 4])
    config = StreamConfig(4800, 3, 0, 2, 0)
    before = [b.keys for b in islice(PairStream([corpus(tmp_path)], config), 4)]
    for path in [*tmp_path.rglob("*.index"), tmp_path / "manifest.json"]:
        path.unlink()
    assert [b.keys for b in islice(PairStream([corpus(tmp_path)], config), 4)] == before


def test_a_tar_that_was_changed_gets_a_new_index(folder: Path) -> None:
    corpus(folder)
    (folder / "manifest.json").unlink()
    write(folder / "b.tar", pairs(5, 7))
    assert [shard.pairs for shard in corpus(folder).shards] == [7, 5]


def test_what_the_meta_tells_is_used(tmp_path: Path) -> None:
    meta = {"alignment_offset": OFFSET, "samples": SAMPLES, "bandwidth_hz": 8000.0}
    write(tmp_path / "a.tar", pairs(0, 2, meta))
    write(tmp_path / "b.tar", pairs(2, 2))
    bandwidths = [
        {pair.bandwidth_hz for pair in shards.load_index(str(tmp_path), shard).pairs}
        for shard in corpus(tmp_path).shards
    ]
    assert bandwidths == [{8000.0}, {24000.0}]


def without(member: str) -> Iterator[dict[str, Any]]:
    for pair in pairs(0, 2):
        yield {name: value for name, value in pair.items() if name != member}


BAD = {
    "no offset": (lambda: pairs(0, 2, {"snr": 3}), "talk/000.pair.json: alignment_offset: Field"),
    "no meta": (lambda: without("pair.json"), "talk/000: no member pair.json"),
    "no clean side": (lambda: without("clean.flac"), "talk/000: no member clean"),
    "no pairs": (lambda: iter(()), "1 tars without a single pair"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_pair_is_refused_by_name_and_nothing_is_left(tmp_path: Path, kind: str) -> None:
    samples, message = BAD[kind]
    write(tmp_path / "a.tar", samples())
    with pytest.raises(ShardError, match=message):
        corpus(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize("kind", ["compressed", "cut", "empty", "text", "mixed"])
def test_what_is_no_whole_tar_of_pairs_in_sequence_is_refused_by_name(
    folder: Path, kind: str
) -> None:
    path = folder / "b.tar"
    data = path.read_bytes()
    if kind == "compressed":
        with tarfile.open(path, "w:gz") as tar:
            tar.addfile(tarfile.TarInfo("a.clean.wav"))
    elif kind == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "mixed":
        first, second = pairs(0, 2)
        mixture = {"__key__": first["__key__"], "clean.flac": b"x"}
        write(path, [mixture, second, {k: v for k, v in first.items() if k != "clean.flac"}])
    else:
        path.write_bytes(b"" if kind == "empty" else b"no tar" * 1000)
    with pytest.raises(ShardError, match=rf"{path}: "):
        corpus(folder)


def test_a_folder_without_tars_and_a_missing_manifest_are_told(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none/manifest\.json"):
        corpus(folder / "none")
    with pytest.raises(FileNotFoundError, match=r"other\.json"):  # a name, not a folder: a slip
        corpus(folder / "other.json")


def test_a_bucket_of_tars_is_indexed_in_the_bucket(
    folder: Path,
    s3_bucket: str,
) -> None:
    for path in folder.rglob("*.tar"):
        storage.publish(f"{s3_bucket}/x/{path.relative_to(folder)}", path.read_bytes())
    config = StreamConfig(4800, 3, 0, 2, 0)
    remote = PairStream([corpus(f"{s3_bucket}/x")], config)
    assert storage.exists(f"{s3_bucket}/x/train/a.index")
    local = PairStream([corpus(folder)], config)
    for ours, theirs in zip(islice(local, 3), islice(remote, 3), strict=True):
        assert ours.keys == theirs.keys and ours.clean.equal(theirs.clean)


def test_tars_that_cannot_be_indexed_beside_themselves_are_told(folder: Path) -> None:
    (folder / "train/a.index").mkdir()
    with pytest.raises(OSError, match=r"train/a\.index"):
        corpus(folder)
    shutil.rmtree(folder / "train/a.index")
    assert json.loads(shards.to_json(corpus(folder).shards[0]))["pairs"] == 4


def test_a_tar_that_is_added_or_changed_is_served_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = corpus(folder)
    assert corpus(folder) == before
    assert "added" not in capsys.readouterr().err
    write(folder / "train/late.tar", pairs(20, 2))
    write(folder / "b.tar", pairs(5, 3))
    after = corpus(folder)
    assert [(shard.path, shard.pairs) for shard in after.shards] == [
        ("b.tar", 3), ("train/a.tar", 5), ("train/late.tar", 2)
    ]  # fmt: skip
    output = capsys.readouterr().err
    assert "1 tar was added: train/late.tar; 1 tar was changed: b.tar;" in output
    assert "manifest-000001.json" in output and len(output.splitlines()) == 1
    first_version = open_corpus(DataSource(f"{folder}/manifest-000001.json"), "train")
    assert (
        first_version.shards == before.shards
        and first_version.manifest_sha256 == before.manifest_sha256
    )
    assert corpus(folder) == after
    assert shards.load_manifest(str(folder)).version == 2


def test_a_first_look_at_the_validation_split_alone_blocks_nothing(tmp_path: Path) -> None:
    write(tmp_path / "val/c.tar", pairs(9, 2))
    with pytest.raises(ShardError, match=r"manifest\.json: no shards in split 'train'.*: val"):
        corpus(tmp_path)
    write(tmp_path / "train/a.tar", pairs(0, 3))
    assert corpus(tmp_path).pairs == 3


def test_without_a_tar_that_is_gone_the_others_are_served_and_it_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = corpus(folder)
    (folder / "b.tar").unlink()
    assert corpus(folder).shards == before.shards[1:]
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 tar was removed: b.tar; it is made again" in line
    shutil.rmtree(folder / "train")
    (folder / "val/c.tar").unlink()
    with pytest.raises(ShardError, match=r"manifest\.json: .*: listed, but no tar is there"):
        corpus(folder)


def test_a_tar_without_a_pair_does_not_make_the_manifest_again(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", pairs(0, 2))
    write(tmp_path / "empty.tar", iter(()))
    before = corpus(tmp_path)
    assert corpus(tmp_path) == before
    assert shards.load_manifest(str(tmp_path)).version == 1


def test_a_tar_in_place_of_a_manifest_is_told_with_its_folder(folder: Path) -> None:
    with pytest.raises(ShardError, match=rf"a\.tar: a tar, expected .*: {folder}/train$"):
        corpus(folder / "train/a.tar")


def with_junk(first: int, count: int, bad: set[int]) -> Iterator[dict[str, Any]]:
    for number, pair in enumerate(pairs(first, count)):
        yield {**pair, "clean.flac": b"no sound"} if number in bad else pair


def test_a_pair_that_cannot_be_decoded_is_named_and_the_others_are_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.tar", with_junk(0, 6, {3}))
    assert corpus(tmp_path).pairs == 5
    assert "1 of 6 pairs cannot be decoded: a.tar: talk/003" in capsys.readouterr().err
    manifest = shards.load_manifest(str(tmp_path))
    assert manifest.rejected == {"unreadable": 1}
    assert manifest.save_segment_seconds == SAMPLES / 48_000
    (shard,) = manifest.shards("train")
    index = shards.load_index(str(tmp_path), shard)
    assert [rejection.path for rejection in index.rejected["unreadable"]] == ["talk/003"]


def test_too_many_pairs_that_cannot_be_decoded_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", with_junk(0, 30, set(range(11))))
    with pytest.raises(ShardError, match=r"11 of 30 pairs cannot be decoded: a\.tar: talk/000"):
        corpus(tmp_path)


@pytest.mark.parametrize("meta", [None, {"alignment_offset": OFFSET, "samples": SAMPLES}])
def test_of_a_shorter_degraded_side_what_both_have_is_used(
    tmp_path: Path, meta: dict[str, Any] | None
) -> None:
    (pair,) = pairs(0, 1, meta)
    clean = content(pair["__key__"], SAMPLES)
    pair["degraded.flac"] = encode(half_at_offset(clean, OFFSET)[:-300], "FLAC")
    write(tmp_path / "a.tar", [pair])
    place = shards.PairList([corpus(tmp_path)])[0]
    assert place.entry.samples == SAMPLES - 300
    waves = shards.load_pair(place, torch.device("cpu"))
    ours = (waves.clean[0, 0] * 32768).numpy().astype(np.int16)
    np.testing.assert_array_equal(ours, clean[: SAMPLES - 300 - OFFSET])
    np.testing.assert_array_equal(waves.degraded[0, 0] * 32768, ours // 2)


def test_tars_behind_links_are_served_and_a_pipe_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    links = tmp_path / "linked"
    links.mkdir()
    (links / "train").symlink_to(folder / "train")
    (links / "b.tar").symlink_to(folder / "b.tar")
    os.mkfifo(folder / "train/live.tar")
    assert [shard.path for shard in corpus(links).shards] == ["b.tar", "train/a.tar"]
    assert f"{links}/train/live.tar: a pipe" in capsys.readouterr().err


def test_tars_that_are_not_served_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = ["more.tar.gz", "test/d.tar", "train/UPPER.TAR", "train/part/e.tar", "val/old.tgz"]
    for path in left:
        write(folder / path, pairs(20, 1))
    (folder / "train/._a.tar").touch()
    assert [shard.path for shard in corpus(folder).shards] == ["b.tar", "train/a.tar"]
    assert f"{folder}: left out: {', '.join(left)}; expected" in capsys.readouterr().err
    assert corpus(folder).pairs == 9 and not capsys.readouterr().err
