"""MosaicML Streaming: MDS shards, shuffled, its own loader; a mix by ``Stream(proportion=…)``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from streaming import MDSWriter, Stream, StreamingDataLoader, StreamingDataset

from benchmarks.conformance.adapter import Setup

PACKAGE = "mosaicml-streaming"
LACKS = {
    "bad items": "a sample that cannot be read raises",
    "changed data": "the state holds epoch, sample, seed and canonical nodes, and no hash of the data",
}
# Fixed, as its documentation advises who changes the number of nodes.
NODES = 1


def write(folder: str, keys: Sequence[Sequence[str]]) -> None:
    """Store the keys as MDS, a shard of about as many as were asked for."""
    with MDSWriter(
        out=folder, columns={"key": "str"}, size_limit=1 << 10, hashes=["xxh64"]
    ) as writer:
        for own in keys:
            for key in own:
                writer.write({"key": key})


def shard_files(folder: str) -> list[Path]:
    """Return the files that hold the data."""
    return sorted(Path(folder).glob("*.mds"))


class Mosaic:
    """A streaming data loader."""

    def __init__(self, setup: Setup) -> None:
        total = sum(setup.weights)
        mixed = len(setup.folders) > 1
        streams = [
            Stream(
                local=folder, proportion=weight / total if mixed else None, validate_hash="xxh64"
            )
            for folder, weight in zip(setup.folders, setup.weights, strict=True)
        ]
        dataset = StreamingDataset(
            streams=streams,
            shuffle=True,
            shuffle_seed=setup.seed,
            batch_size=setup.own_batch,
            num_canonical_nodes=NODES,
            validate_hash="xxh64",
        )
        self._loader = StreamingDataLoader(
            dataset, batch_size=setup.own_batch, num_workers=setup.workers
        )
        if setup.state is not None:
            self._loader.load_state_dict(setup.state)

    def __iter__(self) -> Iterator[list[str]]:
        """Yield keys."""
        while True:
            for batch in self._loader:
                yield list(batch["key"])

    def state(self) -> Any:
        """Return the loader's state."""
        return self._loader.state_dict()


open_loader = Mosaic
