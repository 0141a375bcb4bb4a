"""How a stream of 10 million pairs begins: a manifest of 10,000 shards of 1,000 pairs.

The manifest, its shards and indexes are all there under names of their own, and a reader does with them
what it does with any; but they are hard links to one shard of short clips, so that they fit on a disk.
Seconds are from the first line of a program that has imported everything; memory is the most that any
process of it ever had resident, what is shared counted whole.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.report import print_figure
from benchmarks.stream import data as stream_data
from benchmarks.stream.case import BATCH, last_line, start
from benchmarks.stream.meters import memory
from benchmarks.stream.ours import open_stream
from benchmarks.stream.plan import BENCH, Plan, Ratios
from timbre import shards
from timbre.audio import SAMPLE_RATE

SHARDS, PAIRS = 10_000, 1_000
QUICK_SHARDS = 200
SAMPLES = 4_800
RESUME_AT = 0.9
MOST_SECONDS, MOST_BYTES = 5.0, 1e9


def measure(folder: str, plan: Plan) -> Ratios:
    """Print when the stream is ready and when its first batch comes, at two places of an epoch."""
    count = QUICK_SHARDS if plan.quick else SHARDS
    url = write_links(folder, plan, count)
    size = Path(url).stat().st_size / 1e6
    case = f"{count * PAIRS:,} pairs"
    print_figure(BENCH, case, "manifest", size, "MB")
    worst = {"first": 0.0, "peak": 0.0}
    late = int(RESUME_AT * count * PAIRS / BATCH)
    places = {"90 % of an epoch": late} if plan.quick else {"start": 0, "90 % of an epoch": late}
    for where, step in places.items():
        result = last_line(start(sys.executable, ["-m", __name__, url, str(step)]))
        print_figure(BENCH, f"{case}, {where}", "stream ready", result["ready"], "s")
        print_figure(BENCH, f"{case}, {where}", "first batch", result["first"], "s")
        print_figure(BENCH, f"{case}, {where}", "peak of a process", result["peak"] / 1e9, "GB")
        print_figure(BENCH, f"{case}, {where}", "of it imports", result["imports"] / 1e9, "GB")
        worst = {name: max(value, result[name]) for name, value in worst.items()}
    return {
        "large/first_batch_to_5_s": worst["first"] / MOST_SECONDS,
        "large/peak_to_1_GB": worst["peak"] / MOST_BYTES,
    }


def write_links(folder: str, plan: Plan, count: int) -> str:
    """Write one shard, link it to ``count`` names, list them in a manifest; return its URL."""
    short = [clip[-SAMPLES:] for clip in plan.clips]
    clips_by_key = [(f"{number:06d}", short[number % len(short)]) for number in range(PAIRS)]
    first = stream_data.write_one(folder, shards.shard_path("train", 0), clips_by_key, "wav")
    entries = [first]
    for number in range(1, count):
        path = shards.shard_path("train", number)
        for name in (str, shards.index_path):
            Path(folder, name(path)).hardlink_to(Path(folder, name(first.path)))
        entries.append(replace(first, path=path))
    return stream_data.write_manifest(folder, entries, "wav", SAMPLES / SAMPLE_RATE)


def main() -> None:
    """Open a stream at a step, take a batch; print when, and the most memory of a process."""
    url, step = sys.argv[1], int(sys.argv[2])
    imports = memory(os.getpid()).largest
    start_time = time.perf_counter()
    stream = open_stream(url, SAMPLES, step)
    ready = time.perf_counter() - start_time
    batches = iter(stream)  # held: with it the workers end
    next(batches)
    first = time.perf_counter() - start_time
    peak = memory(os.getpid()).largest
    result = {"ready": ready, "first": first, "peak": peak, "imports": imports}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
