"""LitData: chunks of 64 MB, of int16 tensors in place of WAV, of FLAC files decoded by soundfile."""

from collections.abc import Iterator
from pathlib import Path

from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming.writer import BinaryWriter
from torch import Tensor

from benchmarks.stream.case import BATCH, INT16, WORKERS, Batch, Load, Task
from benchmarks.stream.peers.sides import as_wave, cut_both, decode, stored_pairs, write_by_command

FOLDER = "litdata"


class Pairs(StreamingDataset):  # type: ignore[misc]
    """Pairs by number."""

    def __init__(self, task: Task) -> None:
        super().__init__(str(Path(task.folder, FOLDER)))
        self._task = task

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        sides = super().__getitem__(number)
        return cut_both([as_wave(side, self._task.dtype) for side in sides], self._task)


def load(task: Task) -> Iterator[Batch]:
    """Yield batches of pairs in the order that it deals them to its workers."""
    for batch in StreamingDataLoader(Pairs(task), batch_size=BATCH, num_workers=WORKERS):
        yield Batch(*batch)


def write(folder: str, audio_format: str) -> None:
    """Store the pairs as chunks."""
    writer = BinaryWriter(str(Path(folder, FOLDER)), chunk_bytes="64MB")
    for number, pair in enumerate(stored_pairs(folder, audio_format)):
        files = (pair.degraded, pair.clean)
        writer[number] = (
            files if audio_format == "flac" else tuple(decode(file, INT16) for file in files)
        )
    writer.done()
    writer.merge()


LOADERS: dict[str, Load] = {"litdata": load}

if __name__ == "__main__":
    write_by_command(write)
