"""A bucket that is reached through a faulty proxy, and what storage does there."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest

from tests.object_store import Server, environment, forget_connections, use_environment
from tests.storage.faulty_proxy import Proxy, faulty_proxy
from timbre import storage

DATA = random.Random(1).randbytes(5000)


class Bucket(NamedTuple):
    """A bucket with an object ``a/x`` of DATA, the folder behind it, the proxy in front of it."""

    url: str
    folder: Path
    proxy: Proxy


@pytest.fixture(scope="module")
def proxy(s3: Server) -> Iterator[Proxy]:
    """One for all tests of a file, as a client costs most of a second to make."""
    with pytest.MonkeyPatch.context() as patch, faulty_proxy(s3.endpoint) as proxy:
        # So that s3fs would read DATA in parts.
        patch.setattr(fsspec.get_filesystem_class("s3"), "default_block_size", 1000)
        use_environment(patch, environment(proxy.endpoint))
        yield proxy
        forget_connections()


@pytest.fixture
def bucket(s3: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket; no fault yet."""
    monkeypatch.setattr(storage, "FIRST_WAIT_SECONDS", 0.001)
    name = s3.make_bucket()
    (s3.folder / name / "a").mkdir()
    (s3.folder / name / "a" / "x").write_bytes(DATA)
    proxy.fail()
    return Bucket(f"s3://{name}", s3.folder / name, proxy)


@pytest.fixture
def new_connections() -> Iterator[None]:
    """For tests that change what a connection is made of."""
    forget_connections()
    yield
    forget_connections()


def published(bucket: str) -> bytes:
    storage.publish(f"{bucket}/new", DATA)
    return storage.read(f"{bucket}/new")


OPERATIONS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "read": (lambda url: storage.read(f"{url}/a/x"), DATA),
    "read_range": (lambda url: storage.read_range(f"{url}/a/x", 100, 4000), DATA[100:4100]),
    "size": (lambda url: storage.size(f"{url}/a/x"), len(DATA)),
    "exists": (lambda url: [storage.exists(url + p) for p in ("/a/x", "/a", "/none")], [1, 1, 0]),
    "is_folder": (lambda url: [storage.is_folder(url + p) for p in ("/a", "/a/x")], [1, 0]),
    "find": (lambda url: list(storage.find_below(url)), ["a/x"]),
    "publish": (published, DATA),
    "open_ranged": (lambda url: storage.open_ranged(f"{url}/a/x", len(DATA)).read(), DATA),
}
