"""Grain: array_record files, a global shuffle, a mix by weights, and ``ElasticIterator``."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grain
from array_record.python.array_record_module import ArrayRecordWriter
from grain.experimental import ElasticIterator

from benchmarks.conformance.adapter import Setup

PACKAGE = "grain"
LACKS = {
    "bad items": "a failing read raises; `filter`, which could leave it out, is refused",
    "changed data": "the state is a number and does not know the data",
}


def write(folder: str, keys: Sequence[Sequence[str]]) -> None:
    """Store the keys as records."""
    Path(folder).mkdir(parents=True)
    for number, own in enumerate(keys):
        writer = ArrayRecordWriter(str(Path(folder, f"{number:04d}.array_record")), "group_size:1")
        for key in own:
            writer.write(key.encode())
        writer.close()


def shard_files(folder: str) -> list[Path]:
    """Return the files that hold the data."""
    return sorted(Path(folder).glob("*.array_record"))


class Elastic:
    """An elastic iterator over a mix."""

    def __init__(self, setup: Setup) -> None:
        each = [
            grain.MapDataset.source(grain.sources.ArrayRecordDataSource(shard_files(folder)))
            .seed(setup.seed + number)
            .shuffle()
            .repeat()
            for number, folder in enumerate(setup.folders)
        ]
        mixed = each[0] if len(each) == 1 else grain.MapDataset.mix(each, setup.weights)
        shard = grain.sharding.ShardOptions(setup.rank, setup.world)
        processes = grain.MultiprocessingOptions(setup.workers) if setup.workers else None
        iterator = ElasticIterator(
            mixed, setup.batch, shard, multiprocessing_options=processes
        ).__iter__()
        self._iterator = iterator
        if setup.state is not None:
            iterator.set_state(setup.state)

    def __iter__(self) -> Iterator[list[str]]:
        """Yield keys."""
        return ([bytes(key).decode() for key in batch] for batch in self._iterator)

    def state(self) -> Any:
        """Return the iterator's state."""
        return self._iterator.get_state()


open_loader = Elastic
