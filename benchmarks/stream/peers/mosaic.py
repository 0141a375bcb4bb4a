"""MosaicML Streaming: MDS shards of 64 MB, of int16 arrays in place of WAV, of FLAC files decoded by soundfile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
from torch import Tensor

from benchmarks.stream.case import BATCH, INT16, PAIR_SAMPLES, WORKERS, Batch, Load, Task
from benchmarks.stream.peers.sides import as_wave, cut_both, decode, stored_pairs, write_by_command

FOLDER = "mds"
SIDES = ("degraded", "clean")


class Pairs(StreamingDataset):  # type: ignore[misc]
    """Pairs by number."""

    def __init__(self, task: Task) -> None:
        super().__init__(local=str(Path(task.folder, FOLDER)), shuffle=False, batch_size=BATCH)
        self._task = task

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        pair: dict[str, Any] = super().__getitem__(number)
        sides = (pair[side] for side in SIDES)
        return cut_both([as_wave(side, self._task.dtype) for side in sides], self._task)


def load(task: Task) -> Iterator[Batch]:
    """Yield batches of pairs in the order that it deals them to its workers."""
    for batch in StreamingDataLoader(Pairs(task), batch_size=BATCH, num_workers=WORKERS):
        yield Batch(*batch)


def write(folder: str, audio_format: str) -> None:
    """Store the pairs as MDS."""
    kind = "bytes" if audio_format == "flac" else f"ndarray:int16:{PAIR_SAMPLES}"
    columns = dict.fromkeys(SIDES, kind)
    with MDSWriter(out=str(Path(folder, FOLDER)), columns=columns) as writer:
        for pair in stored_pairs(folder, audio_format):
            files = {"degraded": pair.degraded, "clean": pair.clean}
            waves = {side: decode(data, INT16).numpy() for side, data in files.items()}
            writer.write(files if audio_format == "flac" else waves)


LOADERS: dict[str, Load] = {"mosaicml streaming": load}

if __name__ == "__main__":
    write_by_command(write)
