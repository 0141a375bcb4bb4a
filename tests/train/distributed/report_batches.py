"""Run by torchrun: every rank writes what its loader serves, whole and after resumes.

With ``alone`` rank 0 goes through an epoch before the others start: it would wait for ever if the
loader talked to other ranks.
"""

import json
import sys
import zlib
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from timbre.shards.corpus import DataSource, open_corpus
from timbre.stream import PairStream, Place, StreamConfig
from timbre.stream.batches import PairBatch
from timbre.stream.device_loader import DeviceLoader


def entries(batch: PairBatch) -> list[Any]:
    """Return what must not depend on ranks and workers: epoch, keys, and the sound."""
    sums = [
        zlib.crc32(wave.numpy().tobytes())
        for side in (batch.degraded, batch.clean)
        for wave in side
    ]
    half = len(sums) // 2
    rows = zip(batch.keys, sums[:half], sums[half:], strict=True)
    return [batch.epoch, [list(row) for row in rows]]


def main(job_path: str) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator()
    job = json.loads(Path(job_path).read_text())
    place = Place(accelerator.process_index, accelerator.num_processes)

    def loader() -> DeviceLoader:
        corpora = [open_corpus(DataSource(job["manifest"]), "train")]
        config = StreamConfig(job["segment"], job["global_batch"], 3, 2, job["workers"])
        return DeviceLoader(PairStream(corpora, config, place), accelerator)

    def serve(one: DeviceLoader, steps: int) -> list[Any]:
        batches: list[Any] = []
        while len(batches) < steps:
            batches += [entries(batch) for batch in islice(one, steps - len(batches))]
        return batches

    if job["alone"] and place.rank > 0:
        store = torch.distributed.distributed_c10d._get_default_store()
        store.wait(["served"], timedelta(seconds=100))
    answer: dict[str, Any] = {"whole": serve(loader(), job["steps"])}
    if job["alone"] and place.rank == 0:
        torch.distributed.distributed_c10d._get_default_store().set("served", "yes")
    for step, state in job["states"].items():
        second = loader()
        second.load_state_dict(state)
        answer[step] = serve(second, job["steps"] - int(step))
    Path(job["out"], f"rank{place.rank}.json").write_text(json.dumps(answer))
    accelerator.wait_for_everyone()
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
