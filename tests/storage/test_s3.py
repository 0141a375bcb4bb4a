"""A bucket of a real S3 server: listings, refusals, and how much is fetched."""

from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile

from tests.help.object_store import environment, serve_s3, use_environment
from tests.storage.faulty_bucket import DATA, OPERATIONS, Bucket
from tests.storage.faulty_proxy import Fault
from timbre.command import FAILED, command
from timbre.storage import files as storage
from timbre.storage import retries


@pytest.mark.usefixtures("new_connections")
@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_SECRET_ACCESS_KEY": "wrong"},
        {"AWS_ACCESS_KEY_ID": "unknown"},
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
    ],
    ids=["wrong secret", "unknown key", "none"],
)
def test_refused_credentials_are_told_at_once(
    bucket: Bucket, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, variables)
    for run, _ in OPERATIONS.values():
        bucket.proxy.fail()
        with pytest.raises(PermissionError, match=f"^{bucket.url}.* access refused: .*credentials"):
            run(bucket.url)
        assert len(bucket.proxy.exchanges) <= 1


def test_a_refusal_is_one_paragraph_on_the_command_line(
    bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.proxy.fail(Fault("status", code=403))
    assert command(lambda _: storage.publish(f"{bucket.url}/new", DATA))([]) == FAILED
    output = capsys.readouterr().err
    assert output.startswith(f"timbre: error: {bucket.url}/new: access refused")
    assert output.count("\n") == 1


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_an_expired_token_is_told_at_once(bucket: Bucket, method: str) -> None:
    answer = b"<Error><Code>ExpiredToken</Code><Message>It has expired.</Message></Error>"
    answer = b"" if method == "HEAD" else answer
    bucket.proxy.fail(Fault("status", method, code=400, answer=answer))
    with pytest.raises(PermissionError, match=f"{bucket.url}/a/x: access refused"):
        storage.read(f"{bucket.url}/a/x")
    assert bucket.proxy.count(method, "/a/x") == 1


def test_what_is_not_there_is_told_at_once(bucket: Bucket) -> None:
    for call in (storage.read, storage.size, lambda url: storage.read_range(url, 0, 5)):
        bucket.proxy.fail()
        with pytest.raises(FileNotFoundError, match=f"^{bucket.url}/none: no such file$"):
            call(f"{bucket.url}/none")
        assert len(bucket.proxy.exchanges) <= 2
    for url in (f"{bucket.url}nope", f"{bucket.url}nope/a"):
        assert not storage.exists(url)
        assert not storage.is_folder(url)
        with pytest.raises(FileNotFoundError, match=f"^{url}: no such bucket$"):
            storage.find_files(url)
    with pytest.raises(FileNotFoundError, match="nope/x: no such bucket"):
        storage.publish(f"{bucket.url}nope/x", DATA)


def test_a_range_past_the_end_is_told_at_once(bucket: Bucket) -> None:
    for offset in (4990, 6000):
        with pytest.raises(OSError, match=f"a/x: 5000 bytes long, expected 20 bytes at {offset}$"):
            storage.read_range(f"{bucket.url}/a/x", offset, 20)
    assert bucket.proxy.count("GET") == 2


def test_an_empty_object_is_read_as_empty(bucket: Bucket) -> None:
    storage.publish(f"{bucket.url}/empty", b"")
    assert storage.read(f"{bucket.url}/empty") == b""


@pytest.mark.usefixtures("new_connections")
@pytest.mark.parametrize("operation", ["read", "exists", "find", "publish"])
def test_a_dead_server_is_told_with_the_name(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)
    use_environment(monkeypatch, environment("http://127.0.0.1:1"))
    with pytest.raises(OSError, match=r"^s3://bucket.*: Could not connect .*\(tried 8 times\)"):
        OPERATIONS[operation][0]("s3://bucket")


@pytest.mark.usefixtures("new_connections")
def test_a_server_that_dies_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)
    with serve_s3(tmp_path) as server:
        use_environment(monkeypatch, server.environment)
        url = f"s3://{server.make_bucket()}/a"
        storage.publish(url, DATA)
        server.process.kill()
        server.process.wait()
        with pytest.raises(OSError, match=rf"^{url}: .*\(tried 8 times\)"):
            storage.read(url)


def test_what_another_client_writes_is_seen_at_once(bucket: Bucket) -> None:
    store = fsspec.filesystem("s3")  # the instance that storage is given, too
    other = fsspec.filesystem("s3", skip_instance_cache=True)
    name = bucket.url.removeprefix("s3://")
    for number in range(2):
        store.find(name)
        store.ls(f"{name}/a", detail=True)
        other.pipe_file(f"{name}/a/{number}", bytes(number))
        other.pipe_file(f"{name}/a/x", bytes(100 + number))
        assert storage.exists(f"{bucket.url}/a/{number}")
        assert storage.size(f"{bucket.url}/a/x") == 100 + number
        assert len(storage.read(f"{bucket.url}/a/x")) == 100 + number
        sizes = {file.path: file.bytes for file in storage.find_files(f"{bucket.url}/a")}
        assert sizes == {**{str(n): n for n in range(number + 1)}, "x": 100 + number}
    store.ls(f"{name}/a", detail=True)
    other.rm_file(f"{name}/a/0")
    assert not storage.exists(f"{bucket.url}/a/0")


def test_the_stamp_changes_with_the_content(bucket: Bucket) -> None:
    (before,) = storage.find_files(bucket.url)
    assert storage.find_files(bucket.url) == [before]
    storage.publish(f"{bucket.url}/a/x", DATA[::-1])
    (after,) = storage.find_files(bucket.url)
    assert (after.path, after.bytes) == (before.path, before.bytes)
    assert after.stamp != before.stamp


def test_a_long_listing_comes_by_pages_and_only_a_failed_page_again(bucket: Bucket) -> None:
    for number in range(2500):
        (bucket.folder / f"{number:04d}").touch()
    # Of three pages the second one fails: once for good measure, once without content.
    bucket.proxy.fail(
        Fault("status", "GET", first=2, last=2), Fault("short", "GET", first=3, last=3, keep=0.0)
    )
    files = storage.find_files(bucket.url)
    assert [file.path for file in files] == [*(f"{n:04d}" for n in range(2500)), "a/x"]
    assert bucket.proxy.count("GET") == 5


def test_a_stretch_of_a_long_recording_costs_a_small_part_of_it(bucket: Bucket) -> None:
    path = bucket.folder / "long.flac"
    noise = np.random.default_rng(3).integers(-8000, 8000, 48_000 * 300, dtype=np.int16)
    soundfile.write(path, noise, 48_000)
    length = path.stat().st_size
    bucket.proxy.fail(Fault("short", "GET", first=2, last=2))
    with storage.open_ranged(f"{bucket.url}/long.flac", length) as file:
        recording = soundfile.SoundFile(file)
        recording.seek(48_000 * 237)
        assert np.array_equal(recording.read(48_000, dtype="int16"), noise[48_000 * 237 :][:48_000])
    bytes_read = sum(e.bytes_sent for e in bucket.proxy.exchanges if e.method == "GET")
    assert 0 < bytes_read < length / 8


def test_a_recording_of_another_size_is_refused_before_it_is_read(bucket: Bucket) -> None:
    with pytest.raises(OSError, match="a/x: 5000 bytes long, expected 4000"):
        storage.open_ranged(f"{bucket.url}/a/x", 4000)
    assert bucket.proxy.count("GET") == 0
