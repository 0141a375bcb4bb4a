"""Files by path or URL: whole and ranged reads, atomic publishing, retries.

Anything that fsspec knows (``s3://``, ``gs://``, ``memory://``, plain paths) works wherever timbre
takes a path.
"""

import os
import random
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs

from timbre.errors import ConfigError

T = TypeVar("T")

ATTEMPTS = 5
FIRST_WAIT_SECONDS = 0.5
# Trying again cannot help these.
PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def join(base: str | Path, *parts: str) -> str:
    """Return ``base/part/part`` for a path or a URL."""
    return "/".join([str(base).rstrip("/"), *parts])


def is_local(url: str | Path) -> bool:
    """Whether the path lies on a mounted file system."""
    file_system, _ = _resolve(url)
    return "file" in _protocols(file_system)


def local_path(url: str | Path) -> Path:
    """Return the path of a local URL (``file:///a`` or ``a``)."""
    return Path(_resolve(url)[1])


def exists(url: str | Path) -> bool:
    """Whether there is a file or folder of this name."""
    file_system, path = _resolve(url)
    return bool(_retrying(url, file_system, lambda: file_system.exists(path)))


def is_folder(url: str | Path) -> bool:
    """Whether this is the name of a folder."""
    file_system, path = _resolve(url)
    return bool(_retrying(url, file_system, lambda: file_system.isdir(path)))


def size(url: str | Path) -> int:
    """Return the length of a file in bytes.

    Raises:
        FileNotFoundError: there is no such file.
    """
    file_system, path = _resolve(url)
    return int(_retrying(url, file_system, lambda: file_system.size(path)))


def find_below(url: str | Path) -> dict[str, str]:
    """Return every file below a folder: its path relative to the folder, and its URL; sorted."""
    file_system, root = _resolve(url)
    names = _retrying(url, file_system, lambda: file_system.find(root))
    below = sorted(name.removeprefix(root).lstrip("/") for name in names)
    return {path: join(url, path) for path in below}


def read(url: str | Path) -> bytes:
    """Return a whole file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the store kept failing.
    """
    file_system, path = _resolve(url)
    data: bytes = _retrying(url, file_system, lambda: file_system.cat_file(path))
    return data


def read_range(url: str | Path, offset: int, length: int) -> bytes:
    """Return ``length`` bytes from ``offset``; a short answer is an error, never a short result.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file ends before ``offset + length``, or the store kept failing.
    """
    file_system, path = _resolve(url)

    def ranged() -> bytes:
        data: bytes = file_system.cat_file(path, start=offset, end=offset + length)
        if len(data) != length:
            raise OSError(f"{url}: {len(data)} bytes at {offset}, expected {length}")
        return data

    return _retrying(url, file_system, ranged)


def publish(url: str | Path, data: bytes) -> None:
    """Make ``data`` appear under the name ``url``, whole or not at all.

    Locally a temporary file in the same folder is written, synced and renamed; object stores put
    whole objects.
    """
    if not is_local(url):
        file_system, path = _resolve(url)
        _retrying(url, file_system, lambda: file_system.pipe_file(path, data))
        return
    target = local_path(url)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise type(error)(f"{url}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):  # its folder may not exist
            temporary.unlink(missing_ok=True)


def remove(url: str | Path) -> None:
    """Delete a file; it is no error if it is gone already."""
    file_system, path = _resolve(url)
    with suppress(FileNotFoundError):
        _retrying(url, file_system, lambda: file_system.rm_file(path))


def _resolve(url: str | Path) -> tuple[Any, str]:
    try:
        file_system, path = url_to_fs(str(url))
    except (ValueError, ImportError) as error:  # an unknown scheme, or its package is missing
        raise ConfigError(f"{url}: {error}") from None
    return file_system, path


def _protocols(file_system: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    protocol = file_system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _retrying(
    url: str | Path, file_system: fsspec.AbstractFileSystem, attempt: Callable[[], T]
) -> T:
    """Return ``attempt()``, tried again after jittered, doubling waits when a remote store fails."""
    attempts = 1 if "file" in _protocols(file_system) else ATTEMPTS
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except PERMANENT as error:
            raise type(error)(f"{url}: {error.strerror or 'no such file'}") from None
        except OSError:
            if number == attempts:
                raise
            time.sleep(FIRST_WAIT_SECONDS * 2 ** (number - 1) * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")
