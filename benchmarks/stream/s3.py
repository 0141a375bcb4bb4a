"""Ours from a bucket on this machine, against GETs of the very same ranges with nothing done to the bytes.

A proxy first notes what ours asks for, how much at a time, between two moments when its read-ahead is
full. The bare loop then fetches those ranges in that order with as many in flight, in one process and in
as many as ours has workers; the faster of both is the limit. It and ours take turns, without the proxy.
For information: the standard library's client, and both with 50 ms before every answer.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.report import print_figure
from benchmarks.stream import data as stream_data
from benchmarks.stream.bare_get import Order, Range
from benchmarks.stream.case import BATCH, PAIR_SAMPLES, WORKERS, last_line, start
from benchmarks.stream.meters import wait_until_idle
from benchmarks.stream.ours import open_stream
from benchmarks.stream.plan import BENCH, MEGABYTE, Plan, Ratios
from benchmarks.stream.proxy import Request, most_in_flight, proxy
from tests.help.object_store import environment, serve_s3
from timbre.stream import PairBatch

PAIRS, QUICK_PAIRS = 1024, 128
BATCHES, QUICK_BATCHES = 40, 4
WARM_UP = 4
# So that requests which are sent at once are seen at once.
NOTED_DELAY, LATENCY = 0.02, 0.05


class Demand(NamedTuple):
    """What ours asks the store for to make ``pairs`` pairs."""

    ranges: list[Range]
    in_flight: int
    pairs: int


def measure(folder: str, plan: Plan) -> Ratios:
    """Print the speeds of ours and of bare GETs; return how they relate."""
    pairs, batches = (QUICK_PAIRS, QUICK_BATCHES) if plan.quick else (PAIRS, BATCHES)
    file = Path(folder, "wanted.json")
    with serve_s3(Path(folder), fresh=False) as server:
        bucket = server.make_bucket()
        stream_data.write_ours(f"{folder}/{bucket}", plan.clips, pairs, "wav")
        url = f"s3://{bucket}/manifest.json"
        with proxy(server.endpoint, NOTED_DELAY) as noting:
            marks = run_ours("note", url, batches, noting.endpoint)
        demand = demand_between(noting.requests, marks["from"], marks["until"], batches * BATCH)
        print_demand(demand)

        def turn(endpoint: str) -> dict[str, float]:
            speeds = {"ours": run_ours("time", url, batches, endpoint)["pairs_per_second"]}
            for processes in {1} if plan.quick else {1, WORKERS}:
                speed = run_bare(demand, processes, "s3fs", file, endpoint)
                speeds[f"bare GETs, processes: {processes}"] = speed
            return speeds

        turns = [turn(server.endpoint) for _ in range(plan.rounds)]
        print_speeds("s3", turns)
        if not plan.quick:
            other = run_bare(demand, 1, "http.client", file, server.endpoint)
            print_speeds("s3", [{"bare GETs by http.client": other}])
            with proxy(server.endpoint, LATENCY) as far:
                print_speeds("s3, 50 ms", [turn(far.endpoint)])
    return {"s3/ours_to_bare_get": median(compare(one) for one in turns)}


def compare(speeds: Mapping[str, float]) -> float:
    """Return how ours relates to the fastest of the others."""
    return speeds["ours"] / max(speed for side, speed in speeds.items() if side != "ours")


def run_ours(task: str, url: str, batches: int, endpoint: str) -> dict[str, float]:
    """Run :func:`main` of this module in a process that finds the store at ``endpoint``."""
    command = ["-m", __name__, task, url, str(batches)]
    return last_line(start(sys.executable, command, environment(endpoint)))


def run_bare(demand: Demand, processes: int, client: str, file: Path, endpoint: str) -> float:
    """Return for how many pairs a second the bare loop fetches what is asked for."""
    order = Order(demand.ranges, demand.in_flight, processes, client)
    file.write_text(json.dumps(order._asdict()))
    command = ["-m", "benchmarks.stream.bare_get", str(file)]
    result = last_line(start(sys.executable, command, environment(endpoint)))
    return float(demand.pairs / result["seconds"])


def demand_between(requests: Sequence[Request], since: float, until: float, pairs: int) -> Demand:
    """Return the ranges of shards that were asked for between two moments, in order."""
    gets = [
        request
        for request in requests
        if request.method == "GET"
        and request.path.endswith(".tar")
        and since < request.start < until
    ]
    ranges = []
    for request in sorted(gets, key=lambda request: request.start):
        first, _, last = request.range.removeprefix("bytes=").partition("-")
        ranges.append((request.path.strip("/"), int(first), int(last) + 1))
    return Demand(ranges, most_in_flight(gets), pairs)


def print_demand(demand: Demand) -> None:
    """Print how the store is asked."""
    megabytes = sum(end - begin for _, begin, end in demand.ranges) / MEGABYTE
    print_figure(BENCH, "s3, ours", "requests", len(demand.ranges) / demand.pairs, "1/pair")
    print_figure(BENCH, "s3, ours", "fetched", megabytes / demand.pairs, "MB/pair")
    print_figure(BENCH, "s3, ours", "in flight", demand.in_flight, "requests")


def print_speeds(case: str, turns: Sequence[Mapping[str, float]]) -> None:
    """Print the median speed of each side."""
    for side in turns[0]:
        speed = median(turn[side] for turn in turns)
        print_figure(BENCH, f"{case}, {side}", "speed", speed, "pairs/s")


def main() -> None:
    """Take batches of a stream: `note` when its read-ahead is full before and after, or `time` them."""
    task, url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    batches = iter(open_stream(url, PAIR_SAMPLES))
    take(batches, WARM_UP)
    if task == "note":
        wait_until_idle(os.getpid())
        start_time = time.monotonic()
        take(batches, count)
        wait_until_idle(os.getpid())
        result = {"from": start_time, "until": time.monotonic()}
    else:
        start_time = time.perf_counter()
        take(batches, count)
        result = {"pairs_per_second": count * BATCH / (time.perf_counter() - start_time)}
    sys.stdout.write(json.dumps(result) + "\n")


def take(batches: Iterator[PairBatch], count: int) -> None:
    """Take batches and let go of them."""
    for _ in islice(batches, count):
        pass


if __name__ == "__main__":
    main()
