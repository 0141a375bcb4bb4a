"""A bucket behind a faulty proxy, and the operations that are tried on it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.storage.faulty_proxy import Proxy
from timbre.storage import files as storage

DATA = random.Random(1).randbytes(5000)


class Bucket(NamedTuple):
    """A bucket with an object ``a/x`` of DATA, the folder behind it, the proxy in front of it."""

    url: str
    folder: Path
    proxy: Proxy


def publish_and_read(bucket: str) -> bytes:
    storage.publish(f"{bucket}/new", DATA)
    return storage.read(f"{bucket}/new")


OPERATIONS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "read": (lambda url: storage.read(f"{url}/a/x"), DATA),
    "read_range": (lambda url: storage.read_range(f"{url}/a/x", 100, 4000), DATA[100:4100]),
    "size": (lambda url: storage.size(f"{url}/a/x"), len(DATA)),
    "exists": (lambda url: [storage.exists(url + p) for p in ("/a/x", "/a", "/none")], [1, 1, 0]),
    "is_folder": (lambda url: [storage.is_folder(url + p) for p in ("/a", "/a/x")], [1, 0]),
    "find": (lambda url: list(storage.find_below(url)), ["a/x"]),
    "publish": (publish_and_read, DATA),
    "open_ranged": (lambda url: storage.open_ranged(f"{url}/a/x", len(DATA)).read(), DATA),
}
