"""A real S3 server, and a bucket on it that is reached through a faulty proxy."""

from collections.abc import Iterator

import fsspec
import pytest

from tests import object_store
from tests.object_store import Server, environment, forget_connections, use_environment
from tests.storage.faulty_bucket import DATA, Bucket
from tests.storage.faulty_proxy import Proxy, faulty_proxy
from timbre.storage import retries

s3 = object_store.s3


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
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)
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
