"""Files that are written bit by bit and appear whole or not at all: paths, URLs, standard output."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

from timbre.storage import atomic_write
from timbre.storage import files as storage
from timbre.storage.errors import rename_error

STANDARD = "-"


@contextmanager
def new_file(url: str) -> Iterator[FileIO]:
    """Open a file to write and seek in; at the end of the block it appears under the name ``url``.

    If the block raises, nothing appears, and what had this name before is still there. Until then a
    local one is a temporary file beside it, and others lie in the folder for temporary files; ``-``
    is standard output, which gets its first byte at the end.

    Raises:
        OSError: it cannot be written.
    """
    if url == STANDARD:
        with _temporary() as (file, _):
            yield file
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    elif storage.is_local(url):
        with _beside(url) as file:
            yield file
    else:
        with _temporary() as (file, path):
            yield file
            storage.publish_from(url, path)


@contextmanager
def name_in_errors(url: str) -> Iterator[None]:
    """Let an OSError of the block say that ``url`` cannot be written."""
    try:
        yield
    except OSError as error:
        raise rename_error(error, f"{url}: cannot be written") from None


@contextmanager
def _beside(url: str) -> Iterator[FileIO]:
    target = storage.local_path(url)
    with ExitStack() as stack:
        with name_in_errors(url):
            target.parent.mkdir(parents=True, exist_ok=True)
            file, path = stack.enter_context(atomic_write.temporary(target))
        yield file
        with name_in_errors(url):
            os.fsync(file.fileno())
            path.replace(target)


@contextmanager
def _temporary() -> Iterator[tuple[FileIO, Path]]:
    with tempfile.TemporaryDirectory(prefix="timbre-") as folder:
        path = Path(folder) / "new"
        with FileIO(path, "w+b") as file:
            yield file, path
