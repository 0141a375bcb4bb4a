"""Single requests to one store, and how they are sent again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from timbre.storage import errors as store_errors
from timbre.storage import listing
from timbre.storage.bounded import BoundedStore
from timbre.storage.http_stretch import read_http_stretch
from timbre.storage.resolve import is_a
from timbre.storage.retries import Patience, retry
from timbre.storage.rust_store import read_stretch

T = TypeVar("T")

# How HTTP says that there is no such file.
CODES_OF_ABSENCE = ("404", "410")


def ask(
    url: str | Path,
    file_system: fsspec.AbstractFileSystem,
    request: Callable[[Any], T],
    patience: Patience | None = None,
) -> T:
    """Return what ``request`` returns of the store; it is sent again as :func:`retry` says."""

    def send(seconds: float | None) -> T:
        file_system.invalidate_cache()  # of listings: another process may have written
        return request(BoundedStore(file_system, seconds, patience.requests if patience else None))

    return retry(url, send, remote=not is_a("file", file_system), patience=patience)


def find_size(file_system: Any, path: str) -> int:
    """Return the length of a file in bytes.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        OSError: the store does not say the length, or cannot be reached.
    """
    try:
        entry = file_system.info(path)
    except KeyError:  # s3fs, when the answer came without a length
        entry = {}
    except FileNotFoundError as error:
        failure = _http_cause(error) if is_a("http", file_system) else error
        raise failure from failure.__cause__
    if entry.get("type") == "directory":
        raise IsADirectoryError("a folder, expected a file")
    length = entry.get("size")
    if length is None:
        raise OSError("the store does not tell the size")
    return int(length)


def has_folder(file_system: Any, path: str) -> bool:
    """Return whether a store has a folder of this name."""
    if not is_a("s3", file_system):
        return bool(file_system.info(path)["type"] == "directory")
    # s3fs's own `isdir` lists the whole folder.
    bucket, key, _ = file_system.split_path(path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    page = listing.s3_page(file_system, bucket, prefix, {"MaxKeys": 1})
    return not key or bool(page.get("Contents"))


def fetch_range(file_system: Any, path: str, offset: int, length: int) -> bytes:
    """Return the bytes of a stretch; fewer, or none, where the file ends before."""
    try:
        if file_system.has_loop():
            read = read_http_stretch if is_a("http", file_system) else read_stretch
            data: bytes = file_system.run(read, path, offset, offset + length)
        else:
            data = file_system.cat_file(path, start=offset, end=offset + length)
    except Exception as error:
        if store_errors.code(error) not in ("InvalidRange", "416"):
            raise
        return b""  # the file ends before the offset
    return data


def _http_cause(error: FileNotFoundError) -> BaseException:
    """Return what is behind a "no such file" of fsspec's HTTP, which says so of every failure."""
    cause = error.__cause__
    if (
        cause is None
        or isinstance(cause, FileNotFoundError)
        or store_errors.code(cause) in CODES_OF_ABSENCE
    ):
        return error
    return cause
