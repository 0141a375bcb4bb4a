"""Local files that appear whole or not at all, and what a killed writer leaves."""

import errno
import fcntl
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
# Temporary names start with so much of the name to come: a name has at most 255 bytes.
KEPT_CHARACTERS = 40


def write(target: Path, data: bytes) -> None:
    """Write a temporary file in the target's folder, sync it, and rename it to the target.

    Raises:
        OSError: it cannot be written; then no temporary file is left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary(target) as (file, path):
        write_all(file, data)
        os.fsync(file.fileno())
        path.replace(target)


@contextmanager
def temporary(target: Path) -> Iterator[tuple[FileIO, Path]]:
    """Open a new, locked file beside the target; it is deleted at the end, unless renamed by then."""
    path = target.with_name(f".{target.name[:KEPT_CHARACTERS]}.{uuid.uuid4().hex}.tmp")
    try:
        with lock(path) as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def lock(path: Path) -> Iterator[FileIO]:
    """Open a file that :func:`remove_unlocked` keeps its hands off; wait for who has it.

    It is made if it is not there. A link under its name is not followed, and nothing is truncated.
    """
    while True:
        with FileIO(open_plain(path, os.O_RDWR | os.O_CREAT), "wb") as file:
            with suppress(OSError):  # no locks here, so remove_unlocked removes nothing here
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if is_at(file, path):  # else removed or renamed before it was locked
                    yield file
                    return
            finally:
                # Closing is not enough: a child that was forked meanwhile has it open as well.
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)


def open_plain(path: Path, flags: int) -> int:
    """Open a regular file, and nothing that somebody may have put in its place.

    Raises:
        OSError: it is a link, a pipe or a device, or cannot be opened.
    """
    number = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, f"{path}: no regular file")
    return number


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of ``data``; a raw file stops early where a disk becomes full."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def is_at(file: FileIO, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_temporary(name: str) -> bool:
    """Whether this is the name of a file that is being written, or was when its writer died."""
    return TEMPORARY.fullmatch(name) is not None


def is_unlocked(path: Path) -> bool:
    """Whether there is such a file, and nobody has it locked."""
    return _act_if_unlocked(path, lambda _: None)


def remove_unlocked(path: Path) -> bool:
    """Delete a file that nobody has locked; return whether it was one."""
    return _act_if_unlocked(path, Path.unlink)


def remove_stale(folder: Path) -> int:
    """Delete the temporary files below a folder that nobody writes; return how many that were."""
    return sum(
        remove_unlocked(Path(base, name))
        for base, _, names in os.walk(folder)
        for name in names
        if is_temporary(name)
    )


def _act_if_unlocked(path: Path, action: Callable[[Path], None]) -> bool:
    # Locked, gone already, or on a file system without locks: left alone.
    with suppress(OSError), FileIO(open_plain(path, os.O_RDWR), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            if is_at(file, path):
                action(path)
                return True
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # as in `lock`
    return False
