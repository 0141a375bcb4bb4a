"""The stream from a bucket: the same pairs as from a disk, whatever the store does on the way."""

import multiprocessing
import threading
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator

from tests.conftest import ROOT
from tests.help.made_shards import make_shards
from tests.storage.faulty_bucket import Bucket
from tests.storage.faulty_proxy import Fault
from timbre import config as configs
from timbre.errors import ConfigError
from timbre.shards.corpus import DataSource, open_corpus
from timbre.storage.errors import StoreError
from timbre.stream import PairStream, Place, ReadingConfig, StreamConfig
from timbre.train.config import TrainConfig
from timbre.train.data import TrainingData

COUNTS = [7, 5, 9, 4, 6]
STEPS = 8  # an epoch has 5
TARS = r"\.tar$"
SHARD_BYTES = 460_000  # of the longest shard, at most


class StoredShards:
    """The same shards in a bucket and on a disk."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket, self.folder = bucket, bucket.folder / "shards"
        self.local = make_shards(self.folder, COUNTS)
        self.url = f"{bucket.url}/shards"

    def stream(
        self, url: str = "", workers: int = 0, place: Place | None = None, **reading: Any
    ) -> PairStream:
        config = StreamConfig(4800, 6, 3, 2, workers, reading=ReadingConfig(**reading))
        return PairStream([open_corpus(DataSource(url or self.url), "train")], config, place)

    def expected(self) -> list[Any]:
        return serve(self.stream(self.local))


def serve(stream: PairStream, steps: int = STEPS) -> list[Any]:
    return [
        (
            batch.epoch,
            batch.keys,
            zlib.crc32(batch.degraded.numpy()),
            zlib.crc32(batch.clean.numpy()),
        )
        for batch in islice(stream, steps)
    ]


@pytest.fixture
def shards(bucket: Bucket) -> Iterator[StoredShards]:
    yield StoredShards(bucket)
    bucket.proxy.fail()  # nobody waits for a fault of this test


FAULTS = {
    "none": [],
    "503 twice": [Fault("status", "GET", TARS, 1, 2)],
    "503 twice to every kind of request": [
        Fault("status", method, path, 1, 2)
        for method in ("GET", "HEAD")
        for path in (TARS, r"\.index$")
    ],
    "reset mid-body": [Fault("reset", "GET", TARS, 2, 4)],
    "reset before": [Fault("reset before", "GET", TARS, 1, 2)],
    "short body": [Fault("short", "GET", TARS, 1, 3)],
    "short body with 200": [Fault("status", "GET", TARS, 1, 2, code=200, answer=b"short")],
    "one bit flipped": [Fault("flip", "GET", TARS, 2, 2)],
    "50 ms of latency": [Fault("delay", "GET", ".*")],
}


@pytest.mark.parametrize("with_cache", [False, True], ids=["ranges", "cache"])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_bucket_serves_what_a_disk_does(
    shards: StoredShards, tmp_path: Path, kind: str, with_cache: bool
) -> None:
    expected = shards.expected()
    reading = {"cache_dir": f"{tmp_path}/cache"} if with_cache else {}
    stream = shards.stream(**reading)
    shards.bucket.proxy.fail(*FAULTS[kind])
    assert serve(stream) == expected
    assert stream.replaced == 0
    if kind != "reset before":  # the HTTP client may ask again by itself
        assert (stream.took.retries > 0) == (kind.startswith("503") or "body" in kind)
    assert (stream.took.cache_fetches == len(COUNTS) * 2) == with_cache  # tars and indexes


def test_reading_processes_are_served_alike_and_end_with_the_stream(shards: StoredShards) -> None:
    expected = shards.expected()
    shards.bucket.proxy.fail(Fault("status", "GET", TARS, 2, 3))
    stream = shards.stream(workers=2)
    assert serve(stream) == expected
    assert stream.took.retries == 2
    assert stream.took.bytes > 0


def test_reads_are_in_flight_together_up_to_the_limit(shards: StoredShards) -> None:
    for limit in (1, 4):
        shards.bucket.proxy.fail(Fault("delay", "GET", TARS))
        serve(shards.stream(in_flight=limit), 3)
        tars = [e for e in shards.bucket.proxy.exchanges if e.path.endswith(".tar")]
        assert len(tars) > 4
        # Indexes are asked for by the threads that read ahead.
        assert limit <= shards.bucket.proxy.most_at_once <= limit + 2


def test_neighbours_come_by_one_request_and_only_what_is_asked_for_comes(bucket: Bucket) -> None:
    make_shards(bucket.folder / "near", [6])
    corpus = open_corpus(DataSource(f"{bucket.url}/near"), "train")
    serve(PairStream([corpus], StreamConfig(4800, 6, 3, 2, 0)), 1)
    assert bucket.proxy.count("GET", TARS) <= 3  # one a batch, and up to two are on their way
    make_shards(bucket.folder / "far", [60])
    corpus = open_corpus(DataSource(f"{bucket.url}/far"), "train")
    bucket.proxy.fail()
    serve(PairStream([corpus], StreamConfig(4800, 2, 3, 2, 0)), 1)
    bytes_sent = sum(e.bytes_sent for e in bucket.proxy.exchanges if e.path.endswith(".tar"))
    assert 0 < bytes_sent < corpus.shards[0].bytes / 4


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("with_cache", [False, True], ids=["ranges", "cache"])
def test_a_store_that_stays_away_ends_the_stream_at_the_deadline_with_its_name(
    shards: StoredShards, tmp_path: Path, with_cache: bool, workers: int
) -> None:
    reading = {"cache_dir": f"{tmp_path}/cache"} if with_cache else {}
    stream = shards.stream(workers=workers, deadline_seconds=0.3, **reading)
    shards.bucket.proxy.fail(Fault("status", "GET", TARS))
    message = rf"^{shards.url}/train/shard-00000\d\.tar: .* \(tried \d+ times in \d s\)$"
    with pytest.raises(StoreError, match=message):
        serve(stream)
    assert stream.replaced == 0
    assert shards.bucket.proxy.count("GET", TARS) > 2


def test_refused_credentials_end_the_stream_at_once(shards: StoredShards) -> None:
    stream = shards.stream()
    shards.bucket.proxy.fail(Fault("status", "GET", TARS, code=403))
    with pytest.raises(StoreError, match="access refused"):
        serve(stream)


@pytest.mark.parametrize("with_cache", [False, True], ids=["ranges", "cache"])
def test_damage_in_the_store_is_noticed_and_named(
    shards: StoredShards, tmp_path: Path, with_cache: bool
) -> None:
    """A flipped bit and a tar cut behind its last member, which tar readers take for its end."""
    url = f"{shards.url}/train/shard-00000"
    first_shard, second_shard = (
        shards.folder / f"train/shard-00000{number}.tar" for number in (0, 1)
    )
    data = bytearray(first_shard.read_bytes())
    data[1000] ^= 1  # in the first pair's clean side
    first_shard.write_bytes(data)
    second_shard.write_bytes(second_shard.read_bytes()[:-1024])
    stream = shards.stream(**({"cache_dir": f"{tmp_path}/cache"} if with_cache else {}))
    replacements = [bad for batch in islice(stream, 5) for bad in batch.replaced]
    assert f"{url}0.tar" in {bad.shard for bad in replacements} <= {f"{url}0.tar", f"{url}1.tar"}
    reasons = {(bad.shard[-5], bad.reason) for bad in replacements}
    # What is whole of a damaged shard is served: of the cut one only if nobody looks at its length.
    assert {bad.key for bad in replacements if bad.shard[-5] == "0"} == {"train-000000-0000"}
    assert any(shard == "0" and "CRC-32 differs" in reason for shard, reason in reasons)
    message = "bytes long, expected" if with_cache else "but the manifest says"
    assert all(message in reason for shard, reason in reasons if shard == "1")


def test_two_ranks_with_two_processes_each_fetch_every_file_once(
    shards: StoredShards, tmp_path: Path
) -> None:
    expected = shards.expected()
    proxy = shards.bucket.proxy
    ranks = [
        shards.stream(workers=2, place=Place(rank, 2), cache_dir=f"{tmp_path}/cache")
        for rank in range(2)
    ]
    proxy.fail(Fault("delay", "GET", ".*"))
    keys: dict[int, list[list[str]]] = {}
    # A rank that ends gives up what it fetches, and others fetch it anew: both end together.
    ends = threading.Barrier(2)

    def take(rank: int) -> None:
        batches = iter(ranks[rank])
        keys[rank] = [batch.keys for batch in islice(batches, STEPS)]
        ends.wait(60)

    threads = [threading.Thread(target=take, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a + b for a, b in zip(keys[0], keys[1], strict=True)] == [e[1] for e in expected]
    for number in range(len(COUNTS)):
        for ending in ("tar", "index"):
            assert proxy.count("GET", rf"shard-{number:06d}\.{ending}") == 1, (number, ending)
    fetches = sum(rank.took.cache_fetches for rank in ranks)
    # What a batch fetched that was read ahead and not taken is in no count.
    assert len(COUNTS) < fetches <= 2 * len(COUNTS)
    assert sum(rank.took.cache_hits for rank in ranks) > 2 * len(COUNTS)


def test_a_cached_shard_that_is_deleted_or_damaged_is_fetched_again(
    shards: StoredShards, tmp_path: Path
) -> None:
    expected = shards.expected()
    stream = shards.stream(cache_dir=f"{tmp_path}/cache")
    all_keys = []
    for number, batch in enumerate(islice(stream, STEPS)):
        all_keys.append(batch.keys)
        copies = sorted((tmp_path / "cache").glob("*.shard"))
        if number == 1:
            for copy in copies:
                copy.unlink()
        if number == 3:
            for copy in copies:
                data = bytearray(copy.read_bytes())
                data[len(data) // 3 :: 1000] = bytes(len(data[len(data) // 3 :: 1000]))
                copy.write_bytes(data)
    assert all_keys == [keys for _, keys, _, _ in expected]
    assert stream.replaced == 0
    assert shards.bucket.proxy.count("GET", TARS) > len(COUNTS)


def size_of(path: Path) -> int:
    """Return a file's size; 0 where a reading process has just removed it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_cache_smaller_than_the_working_set_serves_the_same_within_its_limit(
    shards: StoredShards, tmp_path: Path
) -> None:
    expected = shards.expected()
    stream = shards.stream(cache_dir=f"{tmp_path}/cache", cache_bytes=SHARD_BYTES)
    sizes = []
    for number, batch in enumerate(islice(stream, STEPS)):
        assert batch.keys == expected[number][1]
        sizes.append(sum(map(size_of, (tmp_path / "cache").iterdir())))
    assert 0 < max(sizes) <= SHARD_BYTES
    assert stream.took.cache_fetches > 2 * len(COUNTS)


def test_a_cache_that_cannot_be_written_ends_the_stream_with_its_name(
    shards: StoredShards, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=f"^{tmp_path}/file: cannot keep a copy of"):
        serve(shards.stream(cache_dir=f"{tmp_path}/file"))


def test_the_manifest_is_needed_and_its_absence_told(shards: StoredShards) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing/manifest\.json: no such file"):
        shards.stream(f"{shards.bucket.url}/nothing")
    with pytest.raises(ConfigError, match="unknown-scheme"):
        shards.stream("unknown-scheme://bucket/shards")


def test_a_stream_is_closed_at_once_while_the_store_is_away(shards: StoredShards) -> None:
    before = set(multiprocessing.active_children())
    batches = iter(shards.stream(workers=2, deadline_seconds=1000.0))
    next(batches)
    shards.bucket.proxy.fail(Fault("status", "GET"))
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    del batches
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()


def test_a_cache_that_holds_no_shard_is_refused_naming_both_sizes(
    shards: StoredShards, tmp_path: Path
) -> None:
    overrides = [
        f"data=[{{manifest: {shards.url}}}]",
        f"run_dir={tmp_path}/run",
        f"reading={{cache_dir: {tmp_path}/cache, cache_bytes: 7}}",
        "segment_seconds=0.1",
    ]
    config = configs.load(TrainConfig, ROOT / "configs/train_tiny.yaml", overrides)
    largest = max(path.stat().st_size for path in (shards.folder / "train").glob("*.tar"))
    with pytest.raises(ConfigError, match=rf"cache_bytes 7: expected at least {largest}"):
        TrainingData(config, Accelerator(cpu=True))
