"""The raw limits of loading: reading the bytes, and moving batches from workers to the main process."""

import os
import random
from collections.abc import Iterator
from functools import partial
from itertools import cycle

import soundfile
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.stream.case import BATCH, PAIR_SAMPLES, WORKERS, Batch, Load, Task
from benchmarks.stream.ours import FOLDER, manifest_url
from benchmarks.stream.ratios import BARE_TRANSPORT, DECODING, PREAD, TRANSPORT
from timbre import shards, storage
from timbre.shards import Member


def pread(task: Task) -> Iterator[Batch]:
    """Read each pair's audio by one call into one and the same buffer; in this process, in file order.

    Of a WAV only as much as is wanted, of a FLAC all. What is yielded is not the sound: it says only
    that a batch has been read.
    """
    share = task.samples / PAIR_SAMPLES if task.audio_format == "wav" else 1.0
    batch = Batch(*torch.zeros(2, BATCH, task.samples, dtype=torch.int16))
    places = []
    for file, sides in shard_files(task):
        first = min(side.offset for side in sides)
        last = max(side.offset + side.length for side in sides)
        places.append((file, first, round(share * (last - first))))
    buffer = memoryview(bytearray(max(length for _, _, length in places)))
    for number, (file, offset, length) in enumerate(cycle(places), 1):
        os.preadv(file, [buffer[:length]], offset)
        if number % BATCH == 0:
            yield batch


def decoding(task: Task) -> Iterator[Batch]:
    """Let libsndfile alone decode the cut of both sides, off a file in memory; in this process."""
    memory = os.memfd_create("flac")
    batch = Batch(*torch.zeros(2, BATCH, task.samples, dtype=torch.int16))
    for number, (file, sides) in enumerate(cycle(shard_files(task))):
        start = random.randint(0, PAIR_SAMPLES - task.samples)
        for side, rows in zip(sides, batch, strict=True):
            os.ftruncate(memory, 0)
            os.pwrite(memory, os.pread(file, side.length, side.offset), 0)
            os.lseek(memory, 0, os.SEEK_SET)
            with soundfile.SoundFile(memory, closefd=False) as sound:
                sound.seek(start)
                sound.read(out=rows[number % BATCH].numpy())
        if number % BATCH == BATCH - 1:
            yield batch


def shard_files(task: Task) -> list[tuple[int, list[Member]]]:
    """Return for each pair its shard's open file, and where its sides lie."""
    url = manifest_url(task)
    pairs = []
    for shard in shards.load_manifest(url).shards("train"):
        file = os.open(storage.join(task.folder, FOLDER, shard.path), os.O_RDONLY)
        for entry in shards.load_index(shards.folder_of(url), shard).pairs:
            sides = [side for name, side in entry.members.items() if name != shards.META_MEMBER]
            pairs.append((file, sides))
    return pairs


class EmptyBatches(IterableDataset[Batch]):
    """Batches that nothing is read for: fresh shared memory, left as it is or written once."""

    def __init__(self, samples: int, touch: bool) -> None:
        self._samples, self._touch = samples, touch

    def __iter__(self) -> Iterator[Batch]:
        while True:
            sides = [_shared_tensor(self._samples) for _ in range(2)]
            if self._touch:
                for side in sides:
                    side.fill_(1)
            yield Batch(*sides)


def transport(task: Task, touch: bool) -> Iterator[Batch]:
    """Let workers do nothing but hand over batches."""
    loader: DataLoader[Batch] = DataLoader(
        EmptyBatches(task.samples, touch), batch_size=None, num_workers=WORKERS
    )
    return iter(loader)


def _shared_tensor(samples: int) -> Tensor:
    memory = torch.UntypedStorage._new_shared(2 * BATCH * samples)  # type: ignore[no-untyped-call]
    shape = torch.Size((BATCH, samples))
    return torch.empty(0, dtype=torch.int16).set_(memory, 0, shape)  # type: ignore[call-overload, no-any-return]


LOADERS: dict[str, Load] = {
    PREAD: pread,
    DECODING: decoding,
    TRANSPORT: partial(transport, touch=True),
    BARE_TRANSPORT: partial(transport, touch=False),
}
