"""Files to be cached, the store that they are in, and processes that cache them."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from timbre.storage import files as storage
from timbre.storage.cache import FileCache
from timbre.storage.remote import Span

BYTES = 20_000


class File(NamedTuple):
    url: str
    length: int
    sha256: str


class Source:
    """Files as a store has them; counts what is read of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.reads: list[list[Span]] = []
        self.during: Callable[[], Any] = lambda: None

    def add(self, name: str, length: int = BYTES) -> File:
        data = random.Random(name).randbytes(length)
        (self.folder / name).write_bytes(data)
        return File(str(self.folder / name), length, hashlib.sha256(data).hexdigest())

    def read_many(self, spans: Sequence[Span]) -> list[bytes]:
        self.reads.append(list(spans))
        self.during()
        return [storage.read_range(*span) for span in spans]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "source")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts processes of ``cache_process`` that are ready to begin."""
    with ExitStack() as stack:

        def begin(env: dict[str, str] | None = None, **order: Any) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.storage.cache_process", json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env={**os.environ, **(env or {})},
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield begin


def hear(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout
    assert process.stdout.readline() == f"{word}\n"


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("go\n")


def result(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout
    report: dict[str, Any] = json.loads(process.stdout.readline())
    assert process.wait() == 0
    return report


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()} if folder.exists() else {}


def names(*files: File) -> set[str]:
    return {f"{file.sha256}.shard" for file in files}


def age(folder: Path, file: File, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder / f"{file.sha256}.shard", (then, then))


def read(files: FileCache, file: File) -> bytes:
    handle = files.open(*file)
    assert handle is not None
    with handle:
        return handle.read()


def matches(file: File, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == file.sha256
