"""A folder of files: a PyTorch dataset that soundfile decodes, and PyTorch's own loader."""

from collections.abc import Iterator
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.stream.case import BATCH, WORKERS, Batch, Load, Task
from benchmarks.stream.peers.sides import cut_both, stored_pairs, write_by_command

FOLDER = "files"


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of files by number."""

    def __init__(self, task: Task) -> None:
        self._task = task
        folder = Path(task.folder, FOLDER)
        self._pairs = [
            [str(path), str(folder / "clean" / path.name)]
            for path in sorted((folder / "degraded").iterdir())
        ]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        waves = [soundfile.read(path, dtype=self._task.dtype)[0] for path in self._pairs[number]]
        return cut_both([torch.from_numpy(wave) for wave in waves], self._task)


def load(task: Task) -> Iterator[Batch]:
    """Yield batches of pairs in the order of their names."""
    for batch in DataLoader(Files(task), batch_size=BATCH, num_workers=WORKERS):
        yield Batch(*batch)


def write(folder: str, audio_format: str) -> None:
    """Store the sides in a folder each."""
    for pair in stored_pairs(folder, audio_format):
        for side in ("degraded", "clean"):
            path = Path(folder, FOLDER, side, f"{pair.key}.{audio_format}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(getattr(pair, side))


LOADERS: dict[str, Load] = {"folder": load}

if __name__ == "__main__":
    write_by_command(write)
