"""A process that reads files through the cache, or watches its folder.

Its one argument is JSON (see ``read_all`` and ``watch``). It says "ready" and begins when it gets a line.
"""

import fcntl
import hashlib
import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from timbre.storage import cache
from timbre.storage.cache import FileCache
from timbre.storage.remote import Span


def print_and_wait(word: str) -> None:
    print(word, flush=True)  # noqa: T201
    sys.stdin.readline()


def reader(log: Path, stop_at: int) -> Callable[[Sequence[Span]], list[bytes]]:
    """Return a reader of local files that writes each reading to the log.

    At call number ``stop_at`` it prints "reading" and waits for a line.
    """
    calls = []

    def read_many(spans: Sequence[Span]) -> list[bytes]:
        calls.append(spans)
        if len(calls) == stop_at:
            print_and_wait("reading")
        with log.open("a") as file:
            file.write("".join(f"{span.url} {span.offset}\n" for span in spans))
        return [Path(url).read_bytes()[start : start + length] for url, start, length in spans]

    return read_many


def s3_reader(spans: Sequence[Span]) -> list[bytes]:
    from timbre.storage import files as storage

    return [storage.read_range(*span) for span in spans]


def read_all(order: dict[str, Any]) -> None:
    """Open, read and close ``files``, (url, length, sha256) each; print counters and other things."""
    cache.PART_BYTES = order.get("part_bytes", cache.PART_BYTES)
    cache.TOUCH_SECONDS = 0.0
    read_many = reader(Path(order["log"]), order.get("stop_at", 0)) if order["log"] else s3_reader
    files = FileCache(Path(order["folder"]), order["max_bytes"], read_many)
    wrong = []
    print_and_wait("ready")
    for url, length, sha256 in order["files"]:
        file = files.open(url, length, sha256)
        if file is not None:
            with file:
                if hashlib.sha256(file.read()).hexdigest() != sha256:
                    wrong.append(url)
    counters = {name: getattr(files, name) for name in ("hits", "fetches", "fetched_bytes")}
    print(json.dumps({**counters, "bypasses": files.bypasses, "wrong": wrong}))  # noqa: T201


def watch(order: dict[str, Any]) -> None:
    """Until a line comes, look what ``folder`` holds; print the most bytes, and what was not whole."""
    folder_path, most, looks, partial = Path(order["folder"]), 0, 0, set()
    print_and_wait("ready")
    last = False
    while not last:
        last = bool(select.select([sys.stdin], [], [], 0)[0])
        for path in folder_path.glob("*.shard"):
            with suppress(FileNotFoundError):
                if hashlib.sha256(path.read_bytes()).hexdigest() != path.stem:
                    partial.add(path.name)
        folder = os.open(folder_path, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_SH)  # else a file may be seen under two names, or under none
        size = 0
        for path in folder_path.iterdir():
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        os.close(folder)
        most = max(most, size)
        looks += 1
    print(json.dumps({"most": most, "looks": looks, "partial": sorted(partial)}))  # noqa: T201


if __name__ == "__main__":
    argument = json.loads(sys.argv[1])
    (read_all if "files" in argument else watch)(argument)
