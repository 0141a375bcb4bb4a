"""LitData: its chunks and loader, shuffled; a mix by ``CombinedStreamingDataset``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset
from litdata.streaming.writer import BinaryWriter

from benchmarks.conformance.adapter import Setup

PACKAGE = "litdata"
LACKS = {
    "bad items": "an item that cannot be read raises",
    "changed data": "the state does not hold a hash of the data",
    "elastic": "its loader restores at the same number of ranks and workers",
}


def write(folder: str, keys: Sequence[Sequence[str]]) -> None:
    """Store the keys as chunks."""
    writer = BinaryWriter(folder, chunk_size=max(map(len, keys)))
    for number, key in enumerate(key for own in keys for key in own):
        writer[number] = key
    writer.done()
    writer.merge()


def shard_files(folder: str) -> list[Path]:
    """Return the files that hold the data."""
    return sorted(Path(folder).glob("*.bin"))


class Lit:
    """A streaming data loader."""

    def __init__(self, setup: Setup) -> None:
        each = [
            StreamingDataset(folder, shuffle=True, seed=setup.seed, drop_last=True)
            for folder in setup.folders
        ]
        dataset = (
            each[0]
            if len(each) == 1
            else CombinedStreamingDataset(
                each, seed=setup.seed, weights=setup.weights, iterate_over_all=False
            )
        )
        self._loader = StreamingDataLoader(
            dataset, batch_size=setup.own_batch, num_workers=setup.workers, drop_last=True
        )
        if setup.state is not None:
            self._loader.load_state_dict(setup.state)

    def __iter__(self) -> Iterator[list[str]]:
        """Yield keys."""
        while True:
            for batch in self._loader:
                yield list(batch)

    def state(self) -> Any:
        """Return the loader's state."""
        return self._loader.state_dict()


open_loader = Lit
