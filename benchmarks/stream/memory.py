"""What our stream holds as epochs go by: memory of the main process and its workers, shared parts split.

Files are left out: other programs on the machine share the libraries, and their share is nobody's growth.
After each epoch the main process waits until the workers have read ahead as far as they do, so that
every figure is of the same state. Growth is from the second epoch to the last.
"""

import json
import os
import sys
from itertools import islice
from pathlib import Path

from benchmarks.report import print_figure
from benchmarks.stream import data as stream_data
from benchmarks.stream.case import BATCH, SEGMENT_SAMPLES, last_line, start
from benchmarks.stream.meters import memory, wait_until_idle
from benchmarks.stream.ours import open_stream
from benchmarks.stream.plan import BENCH, MEGABYTE, Plan, Ratios

PAIRS, EPOCHS = 256, 20
QUICK_PAIRS, QUICK_EPOCHS = 64, 4


def measure(folder: str, plan: Plan) -> Ratios:
    """Print what is held after some epochs; return by how much it grows, in percent."""
    pairs, epochs = (QUICK_PAIRS, QUICK_EPOCHS) if plan.quick else (PAIRS, EPOCHS)
    stream_data.write_ours(folder, plan.clips, pairs, "flac")
    result = last_line(start(sys.executable, ["-m", __name__, folder, str(epochs)]))
    sizes = result["bytes"]
    for epoch in sorted({1, 2, epochs // 2, epochs}):
        size = sizes[epoch - 1] / MEGABYTE
        print_figure(BENCH, f"ours, epoch {epoch}", "own memory", size, "MB")
    return {"memory/growth_percent": 100 * (sizes[-1] / sizes[1] - 1)}


def main() -> None:
    """Go through so many epochs of the shards in a folder; print what is held after each."""
    folder, epochs = sys.argv[1], int(sys.argv[2])
    stream = open_stream(str(Path(folder, "manifest.json")), SEGMENT_SAMPLES)
    batches = iter(stream)
    sizes = []
    for _ in range(epochs):
        for batch in islice(batches, stream.steps_per_epoch):
            if len(batch.keys) != BATCH:
                raise ValueError(f"{len(batch.keys)} pairs in a batch, expected {BATCH}")
        del batch
        wait_until_idle(os.getpid())
        sizes.append(memory(os.getpid()).own)
    sys.stdout.write(json.dumps({"bytes": sizes}) + "\n")


if __name__ == "__main__":
    main()
