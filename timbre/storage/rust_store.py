"""Stretches of objects by obstore, a client in Rust, where that is installed, and else by fsspec.

Obstore costs 0.3 (one request at a time) to 0.7 (eight) of the processor time of s3fs. All else
(listings, sizes, writing) stays with fsspec. A stretch that obstore does not bring is asked of fsspec
the next time, so bytes and errors are the same with and without.

Obstore follows redirects, which docs/security.md promises not to do. So the first stretch of each object
is fsspec's, which refuses them; and what obstore asks of another host goes to a proxy that is not there.

Its threads do not outlive a fork: a child of a process that used it reads by fsspec.
"""

import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from timbre.storage.rust_places import PLACES, Place

# After a request that failed obstore rests: fsspec finds out why. The rest doubles with each failure in
# sequence, up to so often.
REST_SECONDS, DOUBLINGS = 1.0, 10
# `BoundedStore` ends a request; a client of obstore has one limit for all.
NO_LIMIT = timedelta(days=1)
# What obstore says: of servers that it cannot read from, as they send a stretch with the status of a
# whole file or leave out a header; of a stretch behind the end; and of whatever is refused.
UNREADABLE = re.compile("non-partial|missing from response")
BEHIND_END, REFUSED = "status code: 416", "status code: 4"
NOWHERE = "http://127.0.0.1:1"


class UnansweredError(OSError):
    """Obstore brought nothing; fsspec is asked the next time, and says why."""


class _Bucket:
    """A bucket as obstore reads it; ``store`` is None if it cannot.

    Until obstore has brought a stretch, and after each failure, it is asked for one at a time: what it
    cannot read is sent in vain once, not as often as requests are in flight.
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self.known_keys: set[str] = set()
        self._is_proven = self._is_on_trial = False
        self._failures, self._rests_until = 0, 0.0

    def can_read(self, key: str) -> bool:
        """Return whether obstore is to be asked for an object now."""
        rests = self._is_on_trial or time.monotonic() < self._rests_until
        return self.store is not None and key in self.known_keys and not rests

    @contextmanager
    def request(self) -> Iterator[None]:
        """Make a request in this block: what it raises is obstore's failure."""
        self._is_on_trial = not self._is_proven
        try:
            yield
        except Exception:
            self._is_proven = False
            if (now := time.monotonic()) >= self._rests_until:  # those that fail together are one
                self._rests_until = now + REST_SECONDS * 2 ** min(self._failures, DOUBLINGS)
                self._failures += 1
            raise
        else:
            self._is_proven, self._failures = True, 0
        finally:
            self._is_on_trial = False


async def read_stretch(file_system: Any, path: str, start: int, end: int) -> bytes:
    """Return bytes of an object; fewer if it ends. Runs in the event loop of the file system.

    Raises:
        UnansweredError: they did not come, which another try may mend.
        Exception: whatever the file system raises.
    """
    bucket, key = await _find_bucket(file_system, path)
    if bucket and bucket.can_read(key):
        stretch = await _read(bucket, key, start, end)
        if stretch is not None:
            return stretch
    data: bytes = await file_system._cat_file(path, start=start, end=end)
    if bucket:
        bucket.known_keys.add(key)
    return data


async def _read(bucket: _Bucket, key: str, start: int, end: int) -> bytes | None:
    """Return bytes of an object by obstore; None if fsspec is to read them, or say why it cannot."""
    import obstore

    try:
        with bucket.request():
            return bytes(await obstore.get_range_async(bucket.store, key, start=start, end=end))
    except Exception as error:
        text = str(error)
        if BEHIND_END in text:
            return b""
        if UNREADABLE.search(text):
            bucket.store = None
            return None
        if REFUSED in text:
            return None
        # Not its text, which has addresses with all that is secret in them.
        raise UnansweredError("no answer came, or one that breaks off") from None


async def _find_bucket(file_system: Any, path: str) -> tuple[_Bucket | None, str]:
    """Return the bucket that a path is in, if obstore may read it, and the rest of the path."""
    name, _, key = path.partition("/")
    find_place = PLACES.get(type(file_system).__name__)
    if find_place is None or _process_of_its_threads() != os.getpid():
        return None, key
    buckets: dict[str, _Bucket] = vars(file_system).setdefault("_buckets_of_timbre", {})
    if name not in buckets:
        place = await find_place(file_system, name)
        if name not in buckets:  # others waited meanwhile
            buckets[name] = _Bucket(place and _open(place))
    return buckets[name], key


@cache
def _process_of_its_threads() -> int | None:
    """Return which process uses obstore, remembered over forks; None if none can."""
    is_child = multiprocessing.parent_process() is not None
    if find_spec("obstore") is None or (is_child and "obstore" in sys.modules):
        return None  # a parent that imported it may have used it
    return os.getpid()


def _open(place: Place) -> Any:
    """Return obstore's client, or None if a proxy is to be used, which ``NOWHERE`` would replace."""
    from obstore import store

    address = urlsplit(place.url)
    proxies, host = getproxies(), address.hostname or ""
    if (address.scheme in proxies or "all" in proxies) and not proxy_bypass(host):
        return None
    client: dict[str, Any] = {
        "allow_http": address.scheme == "http",
        "timeout": NO_LIMIT,
        "connect_timeout": timedelta(seconds=place.connect_seconds),
        "read_timeout": timedelta(seconds=place.read_seconds),
        "proxy_url": NOWHERE,
        "proxy_excludes": host,
    }
    if place.authorities and address.scheme == "https":
        client["root_certificate"] = Path(place.authorities).read_bytes()
    retries = {"max_retries": 0, "retry_timeout": NO_LIMIT}
    options = {**place.options, "client_options": client, "retry_config": retries}
    try:
        return getattr(store, place.class_name)(place.bucket, **options)
    except Exception:  # a version that lacks an option, an address that it does not take
        return None
