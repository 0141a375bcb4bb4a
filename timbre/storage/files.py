"""Files by path or URL: whole and ranged reads, listing, atomic publishing, retries.

Anything that fsspec knows (``s3://``, ``gs://``, ``memory://``, plain paths) works wherever timbre
takes a path. What is returned is right or an error: sizes are compared with what the store says
now, and no listing is remembered.
"""

import hashlib
import io
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from timbre.storage import atomic_write, listing, ranged_file
from timbre.storage.errors import EndOfFileError, rename_error
from timbre.storage.listing import FileStat as FileStat
from timbre.storage.resolve import is_a, resolve
from timbre.storage.retries import Patience
from timbre.storage.store_requests import ask, fetch_range, find_size, has_folder

T = TypeVar("T")


def join(base: str | Path, *parts: str) -> str:
    """Return ``base/part/part`` for a path or a URL; the query of an HTTP URL stays behind."""
    path, query = split_query(str(base))
    return "/".join([path.rstrip("/"), *parts]) + query


def split_query(url: str) -> tuple[str, str]:
    """Return an HTTP URL up to its query, and the query with its mark; other names stay whole.

    A folder that is signed as a whole has the signature there, the same for all files in it.
    """
    if not url.startswith(("http://", "https://")):
        return url, ""
    path, mark, query = url.partition("?")
    return path, mark + query


def is_local(url: str | Path) -> bool:
    """Whether the path lies on a mounted file system."""
    file_system, _ = resolve(url)
    return is_a("file", file_system)


def local_path(url: str | Path) -> Path:
    """Return the path of a local URL (``file:///a`` or ``a``)."""
    return Path(resolve(url)[1])


def exists(url: str | Path) -> bool:
    """Whether there is a file or folder of this name."""
    file_system, path = resolve(url)
    if is_a("file", file_system):
        return bool(file_system.exists(path))
    # Not fsspec's own `exists`: it says "no" to a bucket whose server is down.
    try:
        size(url)
    except FileNotFoundError:
        return is_folder(url)
    except IsADirectoryError:
        return True
    return True


def is_folder(url: str | Path) -> bool:
    """Whether this is the name of a folder."""
    file_system, path = resolve(url)
    if is_a("file", file_system):
        return bool(file_system.isdir(path))
    try:
        return ask(url, file_system, lambda store: has_folder(store, path))
    except FileNotFoundError:
        return False


def is_writable(folder: str | Path) -> bool:
    """Whether files may be put into a folder; of a store that is tried with an empty file.

    Raises:
        OSError: the store cannot be asked.
    """
    if is_local(folder):
        effective = os.access in os.supports_effective_ids
        return os.access(local_path(folder), os.W_OK | os.X_OK, effective_ids=effective)
    probe = join(folder, ".probe")
    try:
        publish(probe, b"")
        remove(probe)
    except (PermissionError, NotImplementedError):
        return False
    return True


def size(url: str | Path, patience: Patience | None = None) -> int:
    """Return the length of a file in bytes.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
    """
    file_system, path = resolve(url)
    return ask(url, file_system, lambda store: find_size(store, path), patience)


def find_files(
    url: str | Path, passed_over: dict[str, listing.PassedOver] | None = None
) -> list[FileStat]:
    """Return every file below a folder with its size and stamp, sorted by path.

    Nothing if there is no such folder; unfinished files of ours, and companions of macOS, are left
    out.

    Args:
        url: the folder.
        passed_over: of a mounted folder, see :func:`timbre.storage.listing.local_files`. With it,
            companions of macOS are listed like files.
    """
    file_system, root = resolve(url)

    def ask_folder(request: Callable[[Any], T]) -> T:
        return ask(url, file_system, request)

    if is_a("file", file_system):
        files = listing.local_files(root, passed_over)
    elif is_a("s3", file_system):
        files = listing.s3_files(file_system, root, ask_folder)
    else:
        entries = ask_folder(lambda store: store.find(root, detail=True))
        files = listing.other_files(root, entries)
    named_files = (file for file in files if file.path and not file.path.endswith("/"))
    keeps = passed_over is not None  # who asks what was passed over names companions, too
    files = (file for file in named_files if keeps or not listing.is_companion(file.path))
    return sorted(files, key=attrgetter("path"))


def find_below(url: str | Path) -> dict[str, str]:
    """Return every file below a folder: its path relative to the folder, and its URL; sorted."""
    return {file.path: join(url, file.path) for file in find_files(url)}


def read(url: str | Path, patience: Patience | None = None) -> bytes:
    """Return a whole file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the store kept failing.
    """
    file_system, path = resolve(url)

    def whole(store: Any) -> bytes:
        data: bytes
        if is_a("file", file_system):
            data = file_system.cat_file(path)
            return data
        expected_bytes = find_size(store, path)
        # One request from 0 on: for a plain read s3fs joins parts, and fills short ones with zeros.
        # Of an empty file there is no range.
        data = store.for_bytes(expected_bytes).cat_file(path, start=0 if expected_bytes else None)
        if len(data) != expected_bytes:
            raise OSError(f"{len(data)} of {expected_bytes} bytes came")
        return data

    return ask(url, file_system, whole, patience)


def read_range(
    url: str | Path, offset: int, length: int, patience: Patience | None = None
) -> bytes:
    """Return ``length`` bytes from ``offset``; a short answer is an error, never a short result.

    Raises:
        FileNotFoundError: there is no such file.
        EndOfFileError: it ends before ``offset + length``.
        StoreError: a remote store kept failing.
        OSError: another failure, of a disk or of credentials.
    """
    file_system, path = resolve(url)

    def fetch(store: Any) -> bytes:
        data = fetch_range(store.for_bytes(length), path, offset, length)
        if len(data) == length:
            return data
        if (end := find_size(store, path)) < offset + length:
            raise EndOfFileError(f"{url}: {end} bytes long, expected {length} bytes at {offset}")
        raise OSError(f"{len(data)} of {length} bytes at {offset} came")

    return ask(url, file_system, fetch, patience) if length else b""


def open_ranged(url: str | Path, bytes: int) -> io.BufferedReader:
    """Return a file of ``bytes`` bytes to read and seek in; of a remote one only what is read comes.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it has another size; also later, while reading, if the store kept failing.
    """
    if (length := size(url)) != bytes:
        raise OSError(f"{url}: {length} bytes long, expected {bytes}")
    if is_local(url):
        return local_path(url).open("rb")
    return ranged_file.buffer_ranges(lambda offset, length: read_range(url, offset, length), bytes)


def publish(url: str | Path, data: bytes) -> None:
    """Make ``data`` appear under the name ``url``.

    Locally whole or not at all: a temporary file in the same folder is written, synced and renamed.
    Object stores put whole objects. One that arrived with another size is put again, not deleted: by
    now it may be another writer's.

    Raises:
        OSError: it cannot be written. What had this name before is still there, unless the message
            tells of too few or too many bytes that arrived in its place.
    """
    file_system, path = resolve(url)
    if not is_a("file", file_system):
        _put(url, lambda store: store.pipe_file(path, data), len(data))
        return
    try:
        atomic_write.write(Path(path), data)
    except OSError as error:
        raise rename_error(error, f"{url}: cannot be written") from None


def publish_from(url: str | Path, source: Path) -> None:
    """Make a local file's content appear under a remote ``url``, however large; as :func:`publish`."""
    _, path = resolve(url)
    _put(url, lambda store: store.put_file(str(source), path), source.stat().st_size)


def remove(url: str | Path) -> None:
    """Delete a file; it is no error if it is gone already."""
    file_system, path = resolve(url)
    with suppress(FileNotFoundError):
        ask(url, file_system, lambda store: store.rm_file(path))


def remove_stale_temporaries(folder: str | Path) -> int:
    """Delete what killed publishers left below a local folder; return how many files that were.

    A file that is being written is locked and stays, also on another node of a shared file system.
    """
    # An object is put whole.
    return atomic_write.remove_stale(local_path(folder)) if is_local(folder) else 0


def sha256(data: bytes | mmap.mmap) -> str:
    """Return the hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def _put(url: str | Path, send: Callable[[Any], object], expected_bytes: int) -> None:
    file_system, path = resolve(url)

    def put(store: Any) -> None:
        send(store.for_bytes(expected_bytes))
        try:
            stored_bytes = find_size(store, path)
        except FileNotFoundError:
            raise OSError("what was written is not there") from None
        if stored_bytes != expected_bytes:
            raise OSError(
                f"{stored_bytes} of {expected_bytes} written bytes arrived, and are there now"
            )

    ask(url, file_system, put)
