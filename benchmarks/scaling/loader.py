"""One host that only reads: what crosses its cable for each pair that training would be served.

Run as `python -m benchmarks.scaling.loader MANIFEST RANK WORLD BATCHES OUT` in a network namespace.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path

from benchmarks.scaling.rank import received_bytes
from timbre.shards import DataSource, open_corpus
from timbre.stream import PairStream, Place, StreamConfig

BATCH, SEGMENT = 8, 96_000
WARM_UP = 2
# Nothing more is on its way when nothing has come for so long.
IDLE_SECONDS = 1.0


def main(url: str, rank: int, world: int, batches: int, out: str) -> None:
    """Serve so many batches; write what a pair took of them, on the cable and as counted."""
    config = StreamConfig(segment=SEGMENT, global_batch=BATCH * world, seed=0, window=8, workers=1)
    stream = PairStream([open_corpus(DataSource(url), "train")], config, Place(rank, world))
    served_batches = iter(stream)
    for _ in islice(served_batches, WARM_UP):
        pass
    # As much is read ahead at the end as at the beginning.
    before, took = bytes_when_idle(), stream.took
    for _ in islice(served_batches, batches):
        pass
    cable_bytes = bytes_when_idle() - before
    pairs = batches * BATCH
    figures = {
        "cable_bytes": cable_bytes / pairs,
        "file_bytes": (stream.took.bytes - took.bytes) / pairs,
        "requests": (stream.took.requests - took.requests) / pairs,
    }
    Path(out).write_text(json.dumps(figures))
    served_batches.close()  # type: ignore[attr-defined]


def bytes_when_idle() -> int:
    """What has come in, once nothing comes any more."""
    last = -1
    while (now := received_bytes()) != last:
        last = now
        time.sleep(IDLE_SECONDS)
    return now


if __name__ == "__main__":
    url, rank, world, batches, out = sys.argv[1:]
    main(url, int(rank), int(world), int(batches), out)
