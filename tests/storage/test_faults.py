"""A bucket behind a faulty network: right bytes at last or a clear error, never a wrong byte."""

import hashlib
import random
from dataclasses import replace

import fsspec
import pytest
from fsspec.core import url_to_fs

from tests.storage.faulty_bucket import DATA, OPERATIONS, Bucket
from tests.storage.faulty_proxy import Fault, Kind
from timbre.storage import files as storage
from timbre.storage import retries

FAULTS: dict[str, Fault] = {
    "503": Fault("status"),
    "500": Fault("status", code=500),
    "429": Fault("status", code=429),
    "reset before": Fault("reset before"),
    "reset in the body": Fault("reset", "GET"),
    "short body": Fault("short", "GET"),
    "no body": Fault("short", "GET", keep=0.0),
}
NEEDS_NO_GET = {"size"}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_passing_faults_are_outlived(bucket: Bucket, operation: str, fault: str) -> None:
    run, expected = OPERATIONS[operation]
    # The first request, and later three in a row.
    spans = [(1, 1), (3, 5)]
    bucket.proxy.fail(*(replace(FAULTS[fault], first=first, last=last) for first, last in spans))
    assert run(bucket.url) == expected


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_lasting_faults_are_told_with_the_name(bucket: Bucket, operation: str, fault: str) -> None:
    run, expected = OPERATIONS[operation]
    bucket.proxy.fail(FAULTS[fault])
    if operation in NEEDS_NO_GET and FAULTS[fault].method == "GET":
        assert run(bucket.url) == expected
        return
    with pytest.raises(OSError, match=rf"^{bucket.url}.*\(tried 8 times\)"):
        run(bucket.url)


@pytest.mark.parametrize("kind", ["status", "reset"])
def test_the_libraries_below_do_not_try_again_on_their_own(bucket: Bucket, kind: Kind) -> None:
    bucket.proxy.fail(Fault(kind, "GET"))
    with pytest.raises(OSError, match="tried 8 times"):
        storage.read_range(f"{bucket.url}/a/x", 100, 4000)
    assert bucket.proxy.count("GET") == retries.ATTEMPTS == 8


@pytest.mark.usefixtures("new_connections")
@pytest.mark.parametrize("operation", ["read", "read_range", "find", "open_ranged"])
def test_a_stalled_answer_is_given_up_and_asked_again(
    bucket: Bucket, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "read_timeout", 0.3)
    run, expected = OPERATIONS[operation]
    bucket.proxy.fail(Fault("stall", "GET", last=1))
    assert run(bucket.url) == expected
    assert bucket.proxy.count("GET") >= 2  # a busy machine may stall as well


def test_a_slow_answer_is_waited_for(bucket: Bucket) -> None:
    bucket.proxy.fail(Fault("drip", "GET"))
    assert storage.read(f"{bucket.url}/a/x") == DATA
    assert bucket.proxy.count("GET") == 1


@pytest.mark.parametrize("kind", ["status", "reset before"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_put_leaves_the_old_object_or_none(
    bucket: Bucket, kind: Kind, old: bytes | None
) -> None:
    target = bucket.folder / "new"
    if old is not None:
        target.write_bytes(old)
    bucket.proxy.fail(Fault(kind, "PUT"))
    with pytest.raises(OSError, match=f"{bucket.url}/new"):
        storage.publish(f"{bucket.url}/new", DATA)
    assert (target.read_bytes() if target.exists() else None) == old
    assert bucket.proxy.count("PUT") >= retries.ATTEMPTS


def test_an_object_that_arrived_damaged_is_put_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = url_to_fs(bucket.url)
    original, puts = store.pipe_file, []

    def loses_the_end(path: str, data: bytes) -> None:
        puts.append(path)
        original(path, data[:10] if len(puts) < 3 else data)

    monkeypatch.setattr(store, "pipe_file", loses_the_end)
    storage.publish(f"{bucket.url}/new", DATA)
    assert (bucket.folder / "new").read_bytes() == DATA
    assert len(puts) == 3
    monkeypatch.setattr(store, "pipe_file", lambda path, data: original(path, b"0"))
    message = (
        rf"{bucket.url}/new: 1 of 5000 written bytes arrived, and are there now \(tried 8 times\)"
    )
    with pytest.raises(OSError, match=message):
        storage.publish(f"{bucket.url}/new", DATA)
    # Not deleted: what has the name by now may be another writer's.
    assert (bucket.folder / "new").read_bytes() == b"0"
    assert bucket.proxy.count("DELETE") == 0


def test_a_large_object_is_put_in_parts_whole_or_not_at_all(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "ATTEMPTS", 2)
    data = random.Random(2).randbytes(1000) * 105_000
    bucket.proxy.fail(Fault("reset before", "PUT", "partNumber=3"))
    with pytest.raises(OSError, match=f"{bucket.url}/large"):
        storage.publish(f"{bucket.url}/large", data)
    assert not (bucket.folder / "large").exists()
    bucket.proxy.fail(Fault("status", "PUT", "partNumber=2", last=1))
    storage.publish(f"{bucket.url}/large", data)
    content = (bucket.folder / "large").read_bytes()
    assert hashlib.sha256(content).digest() == hashlib.sha256(data).digest()
