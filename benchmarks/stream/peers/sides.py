"""What the peers share: our pairs read back to be stored anew, and the two sides decoded and cut."""

import io
import random
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import soundfile
import torch
from torch import Tensor

from benchmarks.stream.case import FLOAT32, PAIR_SAMPLES, Task

SAMPLE_RATE = 48_000
OURS = "ours"
FULL_SCALE = 32768


class StoredPair(NamedTuple):
    """A pair as it is in our shards: the bytes of two WAV or FLAC files."""

    key: str
    degraded: bytes
    clean: bytes


def our_shards(folder: str) -> list[str]:
    """Return the tars that we have written in a task's folder; any WebDataset reader reads them."""
    return sorted(map(str, Path(folder, OURS, "train").glob("*.tar")))


def stored_pairs(folder: str, audio_format: str) -> Iterator[StoredPair]:
    """Yield the pairs of our shards."""
    for path in our_shards(folder):
        with tarfile.open(path) as tar:
            members: dict[str, bytes] = {}
            for info in tar:
                key, _, member = info.name.partition(".")
                file = tar.extractfile(info)
                members[member] = file.read() if file else b""
                if len(members) == 3:
                    yield StoredPair(
                        key, *(members[f"{s}.{audio_format}"] for s in ("degraded", "clean"))
                    )
                    members = {}


def write_by_command(write: Callable[[str, str], None]) -> None:
    """Store what the command line tells: a task's folder, and the audio's format."""
    write(sys.argv[1], sys.argv[2])
    sys.stdout.write("\n{}\n")


def decode(data: bytes, dtype: str) -> Tensor:
    """Return ``(samples,)`` of a file that is in memory, whole."""
    wave, _ = soundfile.read(io.BytesIO(data), dtype=dtype)
    return torch.from_numpy(wave)


def as_wave(content: Any, dtype: str) -> Tensor:
    """Return ``(samples,)`` of a file, or of an int16 array that needs no decoder."""
    if isinstance(content, (bytes, memoryview)):
        return decode(bytes(content), dtype)
    wave = torch.as_tensor(content)
    return wave / FULL_SCALE if dtype == FLOAT32 else wave


def cut_both(sides: Sequence[Tensor], task: Task) -> tuple[Tensor, Tensor]:
    """Return the same stretch of both sides, ``(task.samples,)`` each."""
    start = random.randint(0, PAIR_SAMPLES - task.samples)
    degraded, clean = (side[start : start + task.samples] for side in sides)
    return degraded, clean
