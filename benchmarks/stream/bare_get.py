"""GETs of given ranges with nothing done to the bytes: what a store and its client allow.

Run by `benchmarks.stream.s3` as `python -m benchmarks.stream.bare_get FILE`; the file holds a
:class:`Order` as JSON. The last line printed is the seconds from the first request to the last answer.
"""

import asyncio
import http.client
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from queue import SimpleQueue as ThreadQueue
from typing import NamedTuple
from urllib.parse import urlsplit

LONGEST_START_SECONDS = 60.0

Range = tuple[str, int, int]
Times = SimpleQueue[tuple[float, float]]


class Order(NamedTuple):
    """Ranges ``(bucket/key, start, end)``, how many to ask for at a time, by which client.

    ``client`` is `s3fs`, or `http.client`: threads of the standard library with signed addresses.
    """

    ranges: Sequence[Range]
    in_flight: int
    processes: int
    client: str


def main() -> None:
    """Fetch what the file says, in so many processes at once; print how long it took."""
    order = Order(**json.loads(Path(sys.argv[1]).read_text()))
    context = multiprocessing.get_context("fork")
    times: Times = context.SimpleQueue()
    together = context.Barrier(order.processes, timeout=LONGEST_START_SECONDS)
    workers = [
        context.Process(target=fetch_share, args=(order, number, together, times))
        for number in range(order.processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(1)  # it has said why
    starts, ends = zip(*(times.get() for _ in workers), strict=True)
    sys.stdout.write(json.dumps({"seconds": max(ends) - min(starts)}) + "\n")


def fetch_share(order: Order, number: int, together: Barrier, times: Times) -> None:
    """Fetch every so-many-th range with a share of what may be in flight; tell when."""
    fetch = {"s3fs": by_s3fs, "http.client": by_http_client}[order.client]
    share = order.ranges[number :: order.processes]
    in_flight = -(-order.in_flight // order.processes)
    times.put(fetch(share, in_flight, together.wait))


def by_s3fs(
    ranges: Sequence[Range], in_flight: int, begin: Callable[[], object]
) -> tuple[float, float]:
    """Fetch with s3fs's own coroutine; return when that began and ended."""
    import s3fs

    async def fetch() -> tuple[float, float]:
        store = s3fs.S3FileSystem(asynchronous=True, skip_instance_cache=True)
        session = await store.set_session()
        queue = iter(ranges)

        async def fetch_some() -> None:
            for path, start, end in queue:
                check(await store._cat_file(path, start=start, end=end), start, end)

        path, start, end = ranges[0]
        await store._cat_file(path, start=start, end=end)  # connects
        begin()
        start_time = time.monotonic()
        await asyncio.gather(*(fetch_some() for _ in range(in_flight)))
        end_time = time.monotonic()
        await session.close()
        return start_time, end_time

    return asyncio.run(fetch())


def by_http_client(
    ranges: Sequence[Range], in_flight: int, begin: Callable[[], object]
) -> tuple[float, float]:
    """Fetch with threads that hold a connection each; return when that began and ended."""
    import botocore.session
    from botocore.config import Config

    signing = Config(signature_version="s3v4")
    client = botocore.session.get_session().create_client("s3", config=signing)
    addresses: dict[str, str] = {}
    for path in {path for path, _, _ in ranges}:
        bucket, _, key = path.partition("/")
        where = {"Bucket": bucket, "Key": key}
        addresses[path] = client.generate_presigned_url("get_object", Params=where)
    queue: ThreadQueue[Range] = ThreadQueue()
    for one in ranges:
        queue.put(one)

    def fetch_some() -> None:
        address = urlsplit(next(iter(addresses.values())))
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        while True:
            try:
                path, start, end = queue.get_nowait()
            except Empty:
                return
            url = urlsplit(addresses[path])
            headers = {"Range": f"bytes={start}-{end - 1}"}
            connection.request("GET", f"{url.path}?{url.query}", headers=headers)
            check(connection.getresponse().read(), start, end)

    with ThreadPoolExecutor(in_flight) as threads:
        begin()
        start_time = time.monotonic()
        for future in [threads.submit(fetch_some) for _ in range(in_flight)]:
            future.result()
        return start_time, time.monotonic()


def check(data: bytes, start: int, end: int) -> None:
    """Refuse an answer that is not as long as what was asked for: an error is short, and quick."""
    if len(data) != end - start:
        raise OSError(f"{len(data)} bytes, expected {end - start}: {data[:300]!r}")


if __name__ == "__main__":
    main()
