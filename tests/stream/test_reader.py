"""Faults while a local stream is read: each is noticed and named, and the stream goes on."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.help.made_shards import make_shards, publish_tar
from timbre import shards
from timbre.errors import CheckpointError, ShardError
from timbre.shards import ShardEntry
from timbre.shards.corpus import DataSource, open_corpus
from timbre.storage import files as storage
from timbre.stream import PairStream, StreamConfig
from timbre.stream.bad_pair import BadPair

SEGMENT = 4800


def stream(url: str, workers: int = 0, **changes: int) -> PairStream:
    config = {"segment": SEGMENT, "global_batch": 6, "seed": 3, "window": 2} | changes
    corpora = [open_corpus(DataSource(url), "train")]
    return PairStream(corpora, StreamConfig(**config, workers=workers))  # type: ignore[arg-type]


def spoil(url: str, number: int, pairs: range) -> None:
    """Flip a bit in the clean side of some pairs of a shard."""
    folder, shard = shards.folder_of(url), shards.load_manifest(url).shards("train")[number]
    path = storage.join(folder, shard.path)
    data = bytearray(storage.read(path))
    for entry in shards.load_index(folder, shard).pairs[pairs.start : pairs.stop]:
        data[entry.members["clean.wav"].offset + 60] ^= 1
    storage.publish(path, bytes(data))


def epoch_of(one: PairStream) -> list[Any]:
    return list(islice(one, one.steps_per_epoch))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_pair_is_replaced_by_the_next_counted_and_named(tmp_path: Path, workers: int) -> None:
    url = make_shards(tmp_path, [12])
    expected = [key for batch in epoch_of(stream(url)) for key in batch.keys]
    spoil(url, 0, range(4, 5))
    at = expected.index("train-000000-0004")
    expected[at] = expected[(at + 1) % 12]
    one = stream(url, workers)
    batches = epoch_of(one)
    assert [key for batch in batches for key in batch.keys] == expected
    (bad,) = [bad for batch in batches for bad in batch.replaced]
    assert bad == BadPair(
        f"{tmp_path}/train/shard-000000.tar",
        "train-000000-0004",
        "clean.wav: CRC-32 differs from the index",
    )
    assert (one.served, one.replaced, one.last_replaced) == (12, 1, bad)


@pytest.mark.parametrize("workers", [0, 1])
def test_99_bad_pairs_in_a_row_pass_and_101_end_the_stream_with_one_message(
    tmp_path: Path, workers: int
) -> None:
    url = make_shards(tmp_path / "some", [105], seconds=0.1)
    keys = [batch.keys[0] for batch in epoch_of(stream(url, global_batch=1))]
    first = keys[0]
    numbers = [int(key[-4:]) for key in keys]
    for bad in numbers[:99]:
        spoil(url, 0, range(bad, bad + 1))
    one = stream(url, workers, global_batch=1)
    batch = next(iter(one))
    assert batch.keys == [keys[99]] and [bad.key for bad in batch.replaced] == [first]
    one = stream(url, workers, global_batch=1)
    assert sum(len(batch.replaced) for batch in epoch_of(one)) == one.replaced == 99
    for bad in numbers[99:101]:
        spoil(url, 0, range(bad, bad + 1))
    message = r"^100 pairs in a row cannot be read; last: .*shard-000000.tar, train-.*CRC-32"
    with pytest.raises(ShardError, match=message):
        next(iter(stream(url, workers, global_batch=1)))


def cuts(url: str) -> Iterator[tuple[str, int]]:
    """Five places at which a tar can break off."""
    folder, shard = first_shard(url)
    last = shards.load_index(folder, shard).pairs[-1].members
    clean, meta = last["clean.wav"], last["pair.json"]
    yield "in a header", clean.offset - 200
    yield "in audio", clean.offset + 100
    yield "between members", last["degraded.wav"].offset - 512
    yield "between pairs", clean.offset - 512
    yield "in the end mark", meta.offset + meta.length + -meta.length % 512 + 512


def first_shard(url: str) -> tuple[str, ShardEntry]:
    return shards.folder_of(url), shards.load_manifest(url).shards("train")[0]


def test_a_tar_cut_anywhere_is_noticed_and_named(tmp_path: Path) -> None:
    url = make_shards(tmp_path, [6, 12])
    folder, shard = first_shard(url)
    path = storage.join(folder, shard.path)
    whole = storage.read(path)
    for where, content in cuts(url):
        storage.publish(path, whole[:content])
        one = stream(url)
        replacements = [bad for batch in epoch_of(one) for bad in batch.replaced]
        assert len(replacements) >= 6, where
        assert {bad.shard for bad in replacements} == {path}, where
        assert all(
            f"{content} bytes, but the manifest says" in bad.reason for bad in replacements
        ), where


@pytest.mark.parametrize("name", ["tar", "index"])
def test_a_missing_file_is_noticed_and_named(tmp_path: Path, name: str) -> None:
    url = make_shards(tmp_path, [6, 12])
    missing = f"{tmp_path}/train/shard-000000.{name}"
    storage.remove(missing)
    replacements = [bad for batch in epoch_of(stream(url)) for bad in batch.replaced]
    assert {bad.shard for bad in replacements} == {f"{tmp_path}/train/shard-000000.tar"}
    assert all("o such file" in bad.reason for bad in replacements)


def test_a_flipped_bit_anywhere_in_a_side_is_noticed(tmp_path: Path) -> None:
    url = make_shards(tmp_path, [6], seconds=0.1)
    folder, shard = first_shard(url)
    path = storage.join(folder, shard.path)
    whole = storage.read(path)
    entry = shards.load_index(folder, shard).pairs[2]
    for name in ("clean.wav", "degraded.wav"):
        offset, length, _ = entry.members[name]
        for at in (0, 20, 43, 44, length // 2, length - 1):
            content = bytearray(whole)
            content[offset + at] ^= 128
            storage.publish(path, bytes(content))
            replacements = [bad for batch in epoch_of(stream(url)) for bad in batch.replaced]
            assert [bad.key for bad in replacements] == [entry.key], (name, at)


def test_audio_that_was_never_right_is_a_bad_pair(tmp_path: Path) -> None:
    """The CRC agrees, as the tar was indexed like this."""
    url = make_shards(tmp_path, [6], seconds=0.1)
    folder, shard = first_shard(url)
    data = storage.read(storage.join(folder, shard.path))
    rate = (48_000).to_bytes(4, "little")
    assert data.count(rate + (96_000).to_bytes(4, "little")) == 12
    publish_tar(url, shard.path, data.replace(rate, (44_100).to_bytes(4, "little"), 1))
    (bad,) = [bad for batch in epoch_of(stream(url)) for bad in batch.replaced]
    assert bad.key == "train-000000-0000"
    assert bad.reason == "clean.wav: 1 channels at 44100 Hz, expected 1 at 48000"


CORRUPT = [
    {"epoch": -1},
    {"epoch": 0.5},
    {"epoch": None},
    {"sample_in_epoch": 7},
    {"sample_in_epoch": -6},
    {"sample_in_epoch": 36},
    {"sample_in_epoch": "12"},
    {"sample_in_epoch": True},
]


@pytest.mark.parametrize("change", CORRUPT, ids=str)
def test_a_corrupt_state_is_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    one = stream(make_shards(tmp_path, [7, 5, 9, 4, 6], seconds=0.1))  # 5 batches of 6
    state = one.state_dict()
    one.load_state_dict(state | {"sample_in_epoch": 30})
    name, value = next(iter(change.items()))
    with pytest.raises(CheckpointError, match=rf"{name} {value!r}"):
        one.load_state_dict(state | change)
    assert (one.epoch, one.sample_in_epoch) == (0, 30)


def test_memory_stays_flat_over_20_epochs(tmp_path: Path) -> None:
    """The reading process's memory at the end of each epoch, with its share of what it shares."""
    url = make_shards(tmp_path, [24] * 12)  # more shards than stay open
    one = stream(url, workers=1, global_batch=12)
    others = set(psutil.Process().children())
    sizes = []
    for number, _ in enumerate(islice(one, 20 * one.steps_per_epoch), 1):
        if number % one.steps_per_epoch == 0:
            (worker,) = set(psutil.Process().children()) - others
            sizes.append(worker.memory_full_info().pss)
    assert len(sizes) == 20
    assert sizes[-1] == pytest.approx(sizes[2], rel=0.02)
