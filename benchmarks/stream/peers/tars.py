"""WebDataset on our own shards, which are its format.

soundfile decodes, and whole batches are collated in the workers, into shared memory. No
shuffle buffer. `header skipped` takes the samples behind a WAV's 44 bytes without a decoder, as one may
who knows who wrote them. `seeking` decodes the wanted segment only: soundfile can, users do not.
"""

import io
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import soundfile
import torch
import webdataset
from torch import Tensor
from torch.utils.data import default_collate

from benchmarks.stream.case import BATCH, PAIR_SAMPLES, WORKERS, Batch, Load, Task
from benchmarks.stream.peers.sides import cut_both, decode, our_shards, write_by_command

WAV_HEADER = 44

Sides = tuple[Tensor, Tensor]


def load(task: Task, read_pair: Any) -> Iterator[Batch]:
    """Yield batches of pairs, each read by ``read``, as the shards have them."""
    dataset = (
        webdataset.WebDataset(our_shards(task.folder), shardshuffle=False)
        .map(partial(read_pair, task))
        .batched(BATCH, collation_fn=default_collate)
    )
    for batch in webdataset.WebLoader(dataset, batch_size=None, num_workers=WORKERS):
        yield Batch(*batch)


def decode_whole(task: Task, entry: dict[str, Any]) -> Sides:
    """Return both sides of a pair, decoded whole and cut."""
    return cut_both([decode(data, task.dtype) for data in both(task, entry)], task)


def skip_header(task: Task, entry: dict[str, Any]) -> Sides:
    """Return both sides of a pair, taken as they lie in its WAV files, and cut."""
    sides = [
        torch.frombuffer(bytearray(data), dtype=torch.int16, offset=WAV_HEADER)
        for data in both(task, entry)
    ]
    return cut_both(sides, task)


def seek(task: Task, entry: dict[str, Any]) -> Sides:
    """Return a stretch of both sides, of which no more is decoded than that."""
    start = random.randint(0, PAIR_SAMPLES - task.samples)
    degraded, clean = (
        torch.from_numpy(
            soundfile.read(io.BytesIO(data), task.samples, start, dtype="int16")[0],
        )
        for data in both(task, entry)
    )
    return degraded, clean


def both(task: Task, entry: dict[str, Any]) -> list[bytes]:
    """Return the files of both sides."""
    return [entry[f"{side}.{task.audio_format}"] for side in ("degraded", "clean")]


def write(folder: str, audio_format: str) -> None:
    """Nothing to write: the shards are there."""
    del audio_format
    assert our_shards(folder)


LOADERS: dict[str, Load] = {
    "webdataset": partial(load, read_pair=decode_whole),
    "webdataset (header skipped)": partial(load, read_pair=skip_header),
    "webdataset (seeking)": partial(load, read_pair=seek),
}

if __name__ == "__main__":
    write_by_command(write)
