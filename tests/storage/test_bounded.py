"""Requests that end in time, names that are only files, and stores that stay where they are."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.help.object_store import Server, environment, forget_connections, use_environment
from tests.storage.http_store import DATA, HttpStore, http_store
from timbre import storage
from timbre.errors import ConfigError
from timbre.storage import RemoteReader, Span, StoreError, bounded
from timbre.storage.errors import RedirectError


@pytest.fixture
def store() -> Iterator[HttpStore]:
    with http_store() as store:
        yield store


def test_a_store_that_drips_ends_a_read_at_its_deadline(store: HttpStore) -> None:
    store.drips = True
    reader = RemoteReader(1, deadline_seconds=1.5)
    start = time.monotonic()
    with pytest.raises(StoreError, match=rf"^{store.url}/a: no whole answer came in [12] s"):
        reader.read_many([Span(f"{store.url}/a", 0, 2000)])
    assert time.monotonic() - start < 2000 * 0.2  # what its bytes would take
    reader.close()


def test_a_closed_reader_leaves_no_request_waiting(store: HttpStore) -> None:
    store.drips = True
    reader = RemoteReader(1, deadline_seconds=600.0)
    waiting = threading.Thread(
        target=lambda: read_until_closed(reader, Span(f"{store.url}/a", 0, 2000)), daemon=True
    )
    waiting.start()
    while not store.requests:
        waiting.join(0.01)
    reader.close()
    waiting.join(60)
    assert not waiting.is_alive()
    with pytest.raises((StoreError, RuntimeError)):
        reader.read_many([Span(f"{store.url}/a", 0, 2000)])


def read_until_closed(reader: RemoteReader, span: Span) -> None:
    with pytest.raises(StoreError, match="closed meanwhile"):
        reader.read_many([span])


def test_without_a_deadline_a_request_has_the_time_of_its_bytes(
    store: HttpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr("timbre.storage.retries.FIRST_WAIT_SECONDS", 0.0)
    store.drips = True
    with pytest.raises(StoreError, match=rf"^{store.url}/a: no whole answer .*tried 3 times"):
        storage.read(f"{store.url}/a")
    monkeypatch.setattr(bounded, "LEAST_BYTES_PER_SECOND", 1)
    store.drips = False
    assert storage.read(f"{store.url}/b") == DATA


def test_a_redirect_to_another_host_is_refused_by_name(store: HttpStore) -> None:
    with http_store("127.0.0.2") as other:
        store.elsewhere = f"{other.url}/moved"
        for ask in (storage.read, storage.size, storage.exists):
            with pytest.raises(
                RedirectError, match=rf"^{store.url}/a: .*another host, {other.url}"
            ):
                ask(f"{store.url}/a")
        with pytest.raises(RedirectError):
            storage.read_range(f"{store.url}/a", 0, 10)
        assert other.requests == []


def test_a_redirect_on_the_same_host_is_followed(store: HttpStore) -> None:
    store.elsewhere = f"{store.url}/moved"
    assert storage.read(f"{store.url}/a") == DATA


def test_a_bucket_that_redirects_is_not_followed(
    store: HttpStore, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_store("127.0.0.2") as other:
        store.elsewhere = f"{other.url}/moved"
        use_environment(monkeypatch, environment(store.url))
        with pytest.raises(RedirectError, match=r"^s3://bucket/a: .* is not followed"):
            storage.read_range("s3://bucket/a", 0, 10)
        assert other.requests == []
    forget_connections()


def test_no_such_file_is_still_no_such_file(store: HttpStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a: No such file"):
        storage.read(tmp_path / "a")


@pytest.mark.parametrize(
    "name", ["take::2.wav", "::", "a::b::c", "out[1]*.wav", "file:x", "~", "~nobody.wav", "a?b=c#d"]
)
def test_a_plain_path_is_a_file_of_this_machine_whatever_is_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take").write_bytes(b"precious")
    url = f"./{name}" if name == "~" else name
    storage.publish(url, b"data")
    assert (
        (tmp_path / name).read_bytes() == storage.read(url) == storage.read(f"./{name}") == b"data"
    )
    assert storage.local_path(url) == tmp_path / name
    assert (tmp_path / "take").read_bytes() == b"precious"
    storage.remove(url)
    assert not storage.exists(url)


@pytest.mark.parametrize("url", ["simplecache::{}/a", "{}/a::b", "zip://x::{}/a"])
def test_a_chain_of_urls_is_refused_before_anything_is_asked(store: HttpStore, url: str) -> None:
    with pytest.raises(ConfigError, match="chained URLs are not followed"):
        storage.read(url.format(store.url))
    assert store.requests == []


def test_a_name_with_nul_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^a\\x00b: no file can have a name with NUL"):
        storage.read("a\0b")
