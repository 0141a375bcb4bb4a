"""Whole files of a store on this node's disk, each downloaded once for all processes there.

A file is kept as ``SHA256.shard``, so runs and editions that hold the same content share it, and may
share the folder, each with a limit of its own. Files of other names are neither deleted nor counted.
While it is downloaded there are ``.SHA256.lock``, which is locked, and a temporary file that has the
full length from the start: what is there and what is coming are counted together. To make room, or
to give a copy its name, the folder itself is locked.

The folder is this user's alone: copies are trusted as what was downloaded once a process has compared
their hash, so nobody else may write there. Links, pipes and files of others in it are not followed,
not waited for, and replaced.

By hand: fsspec's caches have no limit in bytes, check no hash and are not shared by processes.

It relies on a local POSIX file system: flock on files and on the folder, which ends with the process
that holds it; rename in one step; deleted files that can be read as long as they are open.
"""

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from timbre.errors import ShardError
from timbre.storage import atomic_write
from timbre.storage.errors import rename_error
from timbre.storage.remote import ReadMany, Span

HASH = re.compile(r"[0-9a-f]{64}")
COPY = re.compile(r"[0-9a-f]{64}\.shard")
UNFINISHED_NAME = re.compile(r"\.([0-9a-f]{64}\.lock|[0-9a-f]{40}\.[0-9a-f]{32}\.tmp)")

# What a downloading process holds in memory: so many parts of this size.
PART_BYTES, PARTS_AT_ONCE = 2**23, 4
# The time of last use is exact to this.
TOUCH_SECONDS = 60.0
# A folder that is deleted so often under a download is not there to be used.
TRIES = 5


class FileCache:
    """Whole files of a store, kept on this node's disk for all its processes.

    Counts what this process did: ``hits``, copies opened that were there; ``fetches``, copies it
    downloaded; ``fetched_bytes``, all that came from the store; ``bypasses``, files without room.
    """

    def __init__(self, folder: Path, max_bytes: int, read_many: ReadMany) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._read_many = read_many
        # Of the copies whose hash this process has compared: their file's number on the disk.
        self._files_of_known_hash: dict[str, tuple[int, int]] = {}
        self._is_ours = False
        self.hits = self.fetches = self.fetched_bytes = self.bypasses = 0

    def open(self, url: str, length: int, sha256: str) -> BinaryIO | None:
        """Return the file of ``length`` bytes at ``url``, unbuffered, downloaded if need be.

        It stays on the disk as long as it is open, also in a forked child. Its hash was compared
        when it was downloaded. None if it is larger than the limit, or all that could be deleted to
        make room for it is in use.

        Raises:
            ShardError: twice other bytes came than those of this length and hash.
            OSError: the folder cannot be used or its disk is full; or what ``read_many`` raised.
        """
        if not HASH.fullmatch(sha256):
            raise ShardError(f"{url}: sha256 {sha256!r}, expected 64 hexadecimal digits")
        for number in range(1, TRIES + 1):
            try:
                return self._open(Span(url, 0, length), sha256)
            except _StoreError as failure:
                raise failure.error from None
            except OSError as error:
                if isinstance(error, FileNotFoundError) and number < TRIES:
                    continue  # somebody deleted the folder, or the file that was being written
                message = f"{self._folder}: cannot keep a copy of {url}"
                raise rename_error(error, message) from error
        raise AssertionError("unreachable")

    def discard(self, sha256: str) -> None:
        """Delete a copy that turned out damaged. One that has the right hash now is kept."""
        self._files_of_known_hash.pop(sha256, None)
        path = self._path(sha256)
        if file := _open_shared(path):
            with file:
                self._unlink_unless_whole(file, path, sha256)

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.shard"

    def _open(self, whole: Span, sha256: str) -> BinaryIO | None:
        path = self._path(sha256)
        if copy := self._open_copy(path, whole.length, sha256):
            return copy
        if whole.length > self._max_bytes:
            self.bypasses += 1
            return None
        self._folder.mkdir(0o700, parents=True, exist_ok=True)
        self._check_folder()
        lock = self._folder / f".{sha256}.lock"
        with atomic_write.lock(lock) as lock_file:
            try:
                # Whoever had the lock before may have downloaded it.
                return self._open_copy(path, whole.length, sha256) or self._fetch(whole, sha256)
            finally:
                if atomic_write.is_at(lock_file, lock):
                    lock.unlink(missing_ok=True)

    def _check_folder(self) -> None:
        """Raise OSError if others can write to the folder: a copy in it could be anybody's."""
        if self._is_ours:
            return
        status, user = self._folder.stat(), os.geteuid()
        if user not in (0, status.st_uid) and status.st_uid != 0:
            raise OSError(errno.EPERM, "the folder is another user's; name one of your own")
        if status.st_mode & 0o022:
            raise OSError(
                errno.EPERM,
                f"others can write to the folder (mode {status.st_mode & 0o7777:04o}); name a new "
                "folder in it, or chmod go-w",
            )
        self._is_ours = True

    def _unlink_unless_whole(self, file: FileIO, path: Path, sha256: str) -> bool:
        """Return whether a copy has its hash; delete it if not."""
        file.seek(0)
        digest = hashlib.sha256()
        while part := file.read(PART_BYTES):
            digest.update(part)
        if digest.hexdigest() == sha256:
            file.seek(0)
            return True
        if atomic_write.is_at(file, path):
            path.unlink(missing_ok=True)
        return False

    def _open_copy(self, path: Path, length: int, sha256: str) -> BinaryIO | None:
        """Return an open copy, locked against deletion; None if there is none that is whole."""
        file = _open_shared(path)
        if file is None:
            return None
        status = os.fstat(file.fileno())
        if status.st_size != length:  # cut by something else than us
            file.close()
            path.unlink(missing_ok=True)
            return None
        number = status.st_dev, status.st_ino
        if self._files_of_known_hash.get(sha256) != number:
            if not self._unlink_unless_whole(file, path, sha256):
                file.close()
                return None
            self._files_of_known_hash[sha256] = number
        if abs(time.time() - status.st_mtime) > TOUCH_SECONDS:
            with suppress(OSError):  # of another user, or on a read-only disk: it ages
                os.utime(file.fileno())
        self.hits += 1
        return file

    def _fetch(self, whole: Span, sha256: str) -> BinaryIO | None:
        path = self._path(sha256)
        with atomic_write.temporary(path) as (file, temporary):
            with self._locked_folder():
                if not self._make_room(whole.length):
                    self.bypasses += 1
                    return None
                file.truncate(whole.length)
            self._download(file, whole, sha256)
            os.fsync(file.fileno())
            with self._locked_folder():
                # From here on readers may lock it too, but nobody may delete it.
                fcntl.flock(file, fcntl.LOCK_SH)
                copy = _open_shared(temporary)
                temporary.replace(path)
                status = os.fstat(file.fileno())
                self._files_of_known_hash[sha256] = status.st_dev, status.st_ino
                self.fetches += 1
                return copy

    def _download(self, file: FileIO, whole: Span, sha256: str) -> None:
        for _ in range(2):
            file.truncate(whole.length)
            file.seek(0)
            length, digest = 0, hashlib.sha256()
            for spans in _batches(whole):
                try:
                    parts = self._read_many(spans)
                except OSError as error:
                    raise _StoreError(error) from None
                for part in parts:
                    digest.update(part)
                    atomic_write.write_all(file, part)
                    length += len(part)
            self.fetched_bytes += length
            if (length, digest.hexdigest()) == (whole.length, sha256):
                return
        raise ShardError(
            f"{whole.url}: {length} bytes of sha256 {digest.hexdigest()} came twice, expected"
            f" {whole.length} of {sha256}"
        )

    def _make_room(self, length: int) -> bool:
        """Delete the copies used longest ago, until there is room; nothing if that is not enough."""
        copies, total = self._list()
        excess, paths = total + length - self._max_bytes, []
        for copy in sorted(copies):
            if excess <= 0:
                break
            if atomic_write.is_unlocked(copy.path):
                excess -= copy.length
                paths.append(copy.path)
        return excess <= 0 and all(atomic_write.remove_unlocked(path) for path in paths)

    def _list(self) -> tuple[list["_Copy"], int]:
        """Return all copies, and the bytes of these and of those to come; delete what is left over."""
        copies, total = [], 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                path, is_unfinished = Path(entry.path), UNFINISHED_NAME.fullmatch(entry.name)
                if not is_unfinished and not COPY.fullmatch(entry.name):
                    continue
                if is_unfinished and atomic_write.remove_unlocked(path):
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    total += status.st_size
                    if not is_unfinished:
                        copies.append(_Copy(status.st_mtime, status.st_size, path))
        return copies, total

    @contextmanager
    def _locked_folder(self) -> Iterator[None]:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(folder, fcntl.LOCK_UN)  # also for a child that was forked meanwhile
            os.close(folder)


class _StoreError(Exception):
    """The store failed, not the folder."""

    def __init__(self, error: OSError) -> None:
        self.error = error


class _Copy(NamedTuple):
    last_use: float
    length: int
    path: Path


def _open_shared(path: Path) -> FileIO | None:
    """Return a file to read, and lock it against deletion by us; None if there is none of ours."""
    while True:
        try:
            file = FileIO(atomic_write.open_plain(path, os.O_RDONLY), "rb")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.ENXIO):
                return None  # nothing, or what is no file: it will be replaced
            raise
        if os.fstat(file.fileno()).st_uid not in (os.geteuid(), 0):
            file.close()
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        if atomic_write.is_at(file, path):
            return file
        file.close()  # deleted before it was locked


def _batches(whole: Span) -> Iterator[list[Span]]:
    url, _, length = whole
    starts = range(0, length, PART_BYTES)
    spans = [Span(url, start, min(PART_BYTES, length - start)) for start in starts]
    for first in range(0, len(spans), PARTS_AT_ONCE):
        yield spans[first : first + PARTS_AT_ONCE]
