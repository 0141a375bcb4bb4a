"""Lhotse Shar: a tar of recordings for each side and a list of cuts, as its own writer makes them.

Its `load_audio` gives float32 only, so soundfile decodes what its recordings hold, to int16. A sampler
inside each worker makes batches of so many cuts.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from lhotse import CutSet, MonoCut, Recording
from lhotse.dataset import DynamicCutSampler, IterableDatasetWrapper
from lhotse.shar import SharWriter
from torch.utils.data import DataLoader, Dataset, default_collate

from benchmarks.stream.case import BATCH, WORKERS, Batch, Load, Task
from benchmarks.stream.peers.sides import cut_both, decode, stored_pairs, write_by_command

FOLDER = "shar"
SHARD_PAIRS = 128


class Pairs(Dataset[Batch]):
    """Batches by the cuts that are in them."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getitem__(self, cuts: CutSet) -> Batch:
        pairs = [(one.degraded, one.recording) for one in cuts]
        waves = [
            [decode(side.sources[0].source, self._task.dtype) for side in pair] for pair in pairs
        ]
        return Batch(*default_collate([cut_both(sides, self._task) for sides in waves]))


def load(task: Task) -> Iterator[Batch]:
    """Yield batches of pairs as the shards have them, each worker its own shards."""
    cuts = CutSet.from_shar(
        in_dir=str(Path(task.folder, FOLDER)), split_for_dataloading=True, shuffle_shards=False
    )
    sampler = DynamicCutSampler(cuts, max_cuts=BATCH, shuffle=False, rank=0, world_size=1)
    dataset = IterableDatasetWrapper(Pairs(task), sampler)
    for batch in DataLoader(dataset, batch_size=None, num_workers=WORKERS):
        yield Batch(*batch)


def write(folder: str, audio_format: str) -> None:
    """Store the pairs as Shar."""
    fields = {"recording": audio_format, "degraded": audio_format}
    out = Path(folder, FOLDER)
    out.mkdir()
    with (
        tempfile.TemporaryDirectory() as files,
        SharWriter(str(out), fields=fields, shard_size=SHARD_PAIRS) as writer,
    ):
        for key, *sides in stored_pairs(folder, audio_format):
            degraded, clean = (
                as_recording(Path(files, f"{key}.{side}.{audio_format}"), data)
                for side, data in zip(("degraded", "clean"), sides, strict=True)
            )
            one = MonoCut(key, 0, clean.duration, channel=0, recording=clean)
            one.degraded = degraded
            writer.write(one)


def as_recording(path: Path, data: bytes) -> Recording:
    """Return a recording of these bytes, which are put into a file for it."""
    path.write_bytes(data)
    return Recording.from_file(path)


LOADERS: dict[str, Load] = {"lhotse shar": load}

if __name__ == "__main__":
    torch.set_num_threads(1)
    write_by_command(write)
