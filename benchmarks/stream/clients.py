"""Clients of a store: the processor time that a pair costs by obstore and by s3fs, in turns.

Each reads the same stretches, one a pair and as long as one, through `RemoteReader`, with as many in
flight as training has; in a process of its own. The server is rclone's, behind a proxy that gives
stretches the status that S3 gives them, without which obstore does not take them.
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.report import print_figure
from benchmarks.stream import data as stream_data
from benchmarks.stream.case import BATCH, last_line, start
from benchmarks.stream.plan import BENCH, Plan, Ratios
from benchmarks.stream.proxy import proxy
from tests.help.object_store import environment, serve_s3
from timbre.shards import load_index, load_manifest
from timbre.storage import RemoteReader, Span, rust_places
from timbre.stream import ReadingConfig

PAIRS, QUICK_PAIRS = 512, 64
CLIENTS = ("obstore", "s3fs")


def measure(folder: str, plan: Plan) -> Ratios:
    """Print what a pair costs by each client; return how they relate."""
    pairs = QUICK_PAIRS if plan.quick else PAIRS
    with serve_s3(Path(folder), fresh=False) as server, proxy(server.endpoint, 0.0) as store:
        bucket = server.make_bucket()
        stream_data.write_ours(f"{folder}/{bucket}", plan.clips, pairs, "wav")
        url = f"s3://{bucket}/manifest.json"
        ratios = []
        for number in range(plan.rounds):
            costs = {client: run(client, url, store.endpoint) for client in CLIENTS}
            for client, cost in costs.items():
                print_figure(BENCH, f"round {number + 1}, {client}", "cpu", cost, "ms/pair")
            ratios.append(costs["obstore"] / costs["s3fs"])
    return {"clients/obstore_to_s3fs": median(ratios)}


def run(client: str, url: str, endpoint: str) -> float:
    """Return the milliseconds that a pair costs by a client, measured in another process."""
    result = last_line(start(sys.executable, ["-m", __name__, client, url], environment(endpoint)))
    return float(result["cpu_ms"])


def main() -> None:
    """Read every pair twice; print what the second time cost."""
    client, url = sys.argv[1:]
    if client == "s3fs":
        rust_places.PLACES.clear()
    spans = pair_spans(url)
    reader = RemoteReader(ReadingConfig().in_flight, ReadingConfig().deadline_seconds)
    for clock in ("warm", "measured"):
        begin = time.process_time()
        for first in range(0, len(spans), BATCH):
            reader.read_many(spans[first : first + BATCH])
        cost = 1000 * (time.process_time() - begin) / len(spans)
        sys.stdout.write(json.dumps({"clock": clock, "cpu_ms": cost}) + "\n")
    reader.close()


def pair_spans(url: str) -> list[Span]:
    """Return where every pair of a corpus is."""
    folder = url.rpartition("/")[0]
    spans = []
    for shard in load_manifest(url).splits["train"]:
        for pair in load_index(folder, shard).pairs:
            members = pair.members.values()
            begin = min(offset for offset, _, _ in members)
            end = max(offset + length for offset, length, _ in members)
            spans.append(Span(f"{folder}/{shard.path}", begin, end - begin))
    # Neighbours would come in one request.
    return spans[::2] + spans[1::2]


if __name__ == "__main__":
    main()
