"""WebDataset: tars, shards and a buffer shuffled, a mix by ``RandomMix``."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import webdataset
from torch.utils.data import DataLoader

from benchmarks.conformance.adapter import Setup

PACKAGE = "webdataset"
LACKS = {
    "resume": "it has no state",
    "elastic": "shards are dealt to ranks and workers",
    "changed data": "it has no state",
    "checked bytes": "it holds no hashes",
}


def write(folder: str, keys: Sequence[Sequence[str]]) -> None:
    """Store the keys as tars."""
    Path(folder).mkdir(parents=True)
    for number, own in enumerate(keys):
        with tarfile.open(Path(folder, f"{number:04d}.tar"), "w") as tar:
            for key in own:
                info = tarfile.TarInfo(f"{key}.txt")
                info.size = len(key)
                tar.addfile(info, io.BytesIO(key.encode()))


def shard_files(folder: str) -> list[Path]:
    """Return the files that hold the data."""
    return sorted(Path(folder).glob("*.tar"))


class Tars:
    """A pipeline of tars, as its documentation has it for several nodes."""

    def __init__(self, setup: Setup) -> None:
        each = [
            webdataset.WebDataset(
                [str(path) for path in shard_files(folder)],
                shardshuffle=100,
                nodesplitter=webdataset.split_by_node,
                workersplitter=webdataset.split_by_worker,
                seed=setup.seed,
                empty_check=False,
            ).shuffle(100, seed=setup.seed)
            for folder in setup.folders
        ]
        mixed = each[0] if len(each) == 1 else webdataset.RandomMix(each, setup.weights)
        self._loader = DataLoader(
            mixed,
            batch_size=setup.own_batch,
            num_workers=setup.workers,
            drop_last=True,
            collate_fn=lambda items: [item["__key__"] for item in items],
        )

    def __iter__(self) -> Iterator[list[str]]:
        """Yield keys."""
        while True:
            yield from self._loader

    def state(self) -> Any:
        """There is none."""
        return None


open_loader = Tars
