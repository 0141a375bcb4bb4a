"""Stretches by obstore: as by fsspec, whatever the store does, and no redirect is followed."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.help.object_store import environment, use_environment
from tests.storage.faulty_bucket import DATA, Bucket
from tests.storage.faulty_proxy import Fault
from tests.storage.http_store import http_store
from timbre import storage
from timbre.storage import RemoteReader, Span, StoreError, rust_store
from timbre.storage import files as storage_files
from timbre.storage.errors import RedirectError

pytest.importorskip("obstore")

AGENT = "object_store"


@pytest.fixture
def known(bucket: Bucket) -> Bucket:
    """A bucket of whose object something was read already, which is when obstore begins."""
    assert storage_files.read_range(f"{bucket.url}/a/x", 0, 1) == DATA[:1]
    bucket.proxy.fail()
    return bucket


def agents(bucket: Bucket) -> list[str]:
    return [exchange.agent.partition("/")[0] for exchange in bucket.proxy.exchanges]


def stretch(bucket: Bucket, offset: int = 100, length: int = 4000) -> bytes:
    return storage_files.read_range(f"{bucket.url}/a/x", offset, length)


def test_obstore_reads_what_fsspec_has_read_of_before(known: Bucket) -> None:
    assert stretch(known) == DATA[100:4100]
    assert agents(known) == [AGENT]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status"),
        Fault("status", code=403),
        Fault("reset before"),
        Fault("reset"),
        Fault("short"),
        Fault("short", keep=0.0),
    ],
    ids=lambda fault: f"{fault.kind} {fault.code} {fault.keep}",
)
def test_a_fault_ends_as_by_fsspec(
    known: Bucket, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outcome() -> str:
        known.proxy.fail(fault)
        with pytest.raises(OSError) as error:
            stretch(known)
        return f"{type(error.value).__name__} {error.value}"

    by_obstore = outcome()
    assert AGENT in agents(known)
    monkeypatch.setattr("timbre.storage.rust_store.PLACES", {})
    assert outcome() == by_obstore
    assert AGENT not in agents(known)


def test_a_fault_that_passes_is_outlived_and_obstore_reads_again(
    known: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timbre.storage.rust_store.REST_SECONDS", 0.0)
    known.proxy.fail(Fault("reset", last=1))
    assert stretch(known) == stretch(known) == DATA[100:4100]
    assert agents(known) == [AGENT] * 3


def test_what_obstore_alone_is_refused_fsspec_reads_at_once_and_obstore_rests(
    known: Bucket,
) -> None:
    known.proxy.fail(Fault("status", code=403, last=1))
    assert retries_of_reading(f"{known.url}/a/x") == 0
    assert agents(known).count(AGENT) == 1


def test_obstore_is_asked_for_one_stretch_at_a_time_until_it_has_brought_one() -> None:
    bucket = rust_store._Bucket(object())
    bucket.known_keys.add("x")
    with bucket.request():
        assert not bucket.can_read("x")
    with bucket.request():
        assert bucket.can_read("x")
    with pytest.raises(OSError), bucket.request():
        raise OSError
    assert not bucket.can_read("x")


def retries_of_reading(url: str) -> int:
    """Read some stretches of DATA one by one; return how many requests were sent again."""
    with closing(RemoteReader(1, deadline_seconds=60.0)) as reader:
        for offset in range(3):
            assert reader.read_many([Span(url, offset, 1000)]) == [DATA[offset : offset + 1000]]
        return reader.retries


def test_what_is_gone_or_too_short_is_told_as_by_fsspec(known: Bucket) -> None:
    with pytest.raises(OSError, match=r"a/x: 5000 bytes long, expected 20 bytes at 4990$"):
        stretch(known, 4990, 20)
    with pytest.raises(OSError, match=r"a/x: 5000 bytes long, expected 20 bytes at 6000$"):
        stretch(known, 6000, 20)
    (known.folder / "a" / "x").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^{known.url}/a/x: no such file$"):
        stretch(known)


def test_a_server_that_sends_stretches_as_whole_files_is_read_by_fsspec(
    s3_bucket: str,
) -> None:
    storage.publish(f"{s3_bucket}/a", DATA)  # rclone's, without the proxy
    assert retries_of_reading(f"{s3_bucket}/a") == 0


@pytest.mark.usefixtures("new_connections")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"], ids=["other port", "other host"])
def test_a_redirect_is_refused_from_the_first_stretch_on(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timbre.storage.retries.FIRST_WAIT_SECONDS", 0.001)
    with http_store() as store, http_store(host) as other:
        store.elsewhere = f"{other.url}/moved"
        use_environment(monkeypatch, environment(store.url))
        for _ in range(2):
            with pytest.raises(RedirectError, match=r"^s3://bucket/a: .* is not followed"):
                storage.read_range("s3://bucket/a", 0, 10)
        assert other.requests == []


def test_a_redirect_that_comes_later_leads_to_no_other_host(
    known: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_store("127.0.0.2") as other:
        location = ("Location", f"{other.url}/moved")
        known.proxy.fail(Fault("status", code=302, headers=(location,)))
        with pytest.raises(RedirectError, match=r"a/x: .* is not followed"):
            stretch(known)
        assert agents(known)[0] == AGENT
        assert other.requests == []


def test_a_drip_ends_at_the_deadline_and_nothing_waits_behind_it(known: Bucket) -> None:
    known.proxy.fail(Fault("stall"))
    reader = RemoteReader(1, deadline_seconds=1.0)
    with pytest.raises(StoreError, match=r"a/x: no whole answer came in 1 s"):
        reader.read_many([Span(f"{known.url}/a/x", 0, 4000)])
    assert agents(known) == [AGENT]
    reader.close()


def in_a_fork(check: Callable[[], None]) -> int:
    """Return how a forked child ends that makes a check."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        check()
    except BaseException:
        os._exit(1)
    os._exit(0)


def test_a_fork_of_a_process_that_used_obstore_reads_by_fsspec(known: Bucket) -> None:
    assert stretch(known) == DATA[100:4100]

    def check() -> None:
        assert [stretch(known) for _ in range(3)] == [DATA[100:4100]] * 3

    assert in_a_fork(check) == 0
    assert agents(known).count(AGENT) == 1


@pytest.mark.usefixtures("new_connections")
def test_credentials_of_a_profile_are_obstores_too(
    known: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = environment(known.proxy.endpoint)
    key, secret = variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]
    credentials = tmp_path / "credentials"
    credentials.write_text(
        f"[night]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
    )
    use_environment(monkeypatch, variables | {"AWS_SHARED_CREDENTIALS_FILE": str(credentials)})
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "night")
    assert stretch(known) == stretch(known) == DATA[100:4100]
    assert agents(known)[-1] == AGENT
