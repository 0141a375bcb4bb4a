"""`timbre prep` killed at any moment, or out of disk: run again, it ends as if nothing had happened."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shard_tools.verify.manifest import verify
from tests.help.small_prep import contents, write_config, write_sources

# Killed when so many more shards are finished, and then at any moment; the first while it starts.
MORE_SHARDS = (0, 1, 3, 2)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def whole(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a run that nobody disturbs."""
    output = tmp_path_factory.mktemp("whole") / "out"
    subprocess.run(command(sources, output), check=True, capture_output=True)
    assert verify(f"{output}/manifest.json") == []
    assert len(list(output.rglob("shard-*.tar"))) > sum(MORE_SHARDS) + 3
    return contents(output)


def command(sources: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "timbre", "prep", str(write_config(sources, output))]


def finished(output: Path) -> dict[Path, int]:
    """Return when each finished shard was written."""
    return {path: path.stat().st_mtime_ns for path in output.rglob("shard-*.index")}


def kill_at(words: list[str], output: Path, count: int, delay: float) -> None:
    """Run a job and kill it some time after so many shards are finished."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while len(finished(output)) < count and process.poll() is None:
        time.sleep(0.01)  # files tell nobody that they have appeared
    with suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    process.kill()
    text, _ = process.communicate()  # until its workers are gone, which write to it, too
    assert process.returncode == -signal.SIGKILL, text


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    sources: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    output, chance = tmp_path / "out", random.Random(0)
    words = command(sources, output)
    stamps: dict[Path, int] = {}
    for more in MORE_SHARDS:
        kill_at(words, output, len(stamps) + more, chance.uniform(0.0, 0.5))
        for name, data in contents(output).items():
            assert data == whole[name], f"{name} is not whole after {more} more shards"
        times = finished(output)
        assert stamps.items() <= times.items(), "a finished shard was made again"
        stamps = times
    subprocess.run(words, check=True, capture_output=True)
    assert stamps.items() <= finished(output).items()
    assert contents(output) == whole
    assert not [path for path in output.rglob("*.tmp") if "shard" in path.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    process = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if process.returncode:
        pytest.skip(f"cannot mount a small disk: {process.stderr.decode().strip()}")
    yield folder
    for _ in range(50):
        if subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)


def test_a_full_disk_is_told_and_with_room_the_job_goes_on(
    sources: Path, whole: dict[str, bytes], small_disk: Path
) -> None:
    output = small_disk / "out"
    words = command(sources, output)
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.count("timbre: error:") == 1 and "Traceback" not in process.stderr
    assert "No space left on device" in process.stderr and str(output) in process.stderr
    for name, data in contents(output).items():
        assert data == whole[name]
    remount = ["mount", "-o", "remount,size=200m", str(small_disk)]
    subprocess.run(remount, check=True)
    subprocess.run(words, check=True, capture_output=True)
    assert contents(output) == whole
