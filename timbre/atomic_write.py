"""Local files that appear whole or not at all, and what a killed writer leaves."""

import fcntl
import os
import re
import uuid
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
# Temporary names start with so much of the name to come: a name has at most 255 bytes.
KEPT_CHARACTERS = 40


def write(target: Path, data: bytes) -> None:
    """Write a temporary file in the target's folder, sync it, and rename it to the target.

    Raises:
        OSError: it cannot be written; then no temporary file is left.
    """
    temporary = target.with_name(f".{target.name[:KEPT_CHARACTERS]}.{uuid.uuid4().hex}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _open_locked(temporary) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether this is the name of a file that is being written, or was when its writer died."""
    return TEMPORARY.fullmatch(name) is not None


def remove_stale(folder: Path) -> int:
    """Delete the temporary files below a folder that nobody writes; return how many that were."""
    removed = 0
    for base, _, names in os.walk(folder):
        for path in (Path(base, name) for name in names if is_temporary(name)):
            # Locked, gone already, or on a file system without locks: left alone.
            with suppress(OSError), path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed += 1
    return removed


def _open_locked(path: Path) -> BinaryIO:
    """Make a file that :func:`remove_stale` keeps its hands off as long as it is open."""
    while True:
        file = path.open("wb")
        with suppress(OSError):  # no locks here, so remove_stale removes nothing here
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # removed before it was locked
