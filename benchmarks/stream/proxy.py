"""A proxy on this machine that notes requests for objects, and can make each wait as a far store does.

Requests are passed on as they came, with the host that was signed, so signatures stay valid.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

END_OF_HEAD = b"\r\n\r\n"
PIECE = 1 << 16


class Request(NamedTuple):
    """A request that was answered: its path, its range, and between when, by `time.monotonic`."""

    method: str
    path: str
    range: str
    start: float
    end: float


class Proxy:
    """Where it listens, and what it has passed on."""

    def __init__(self, target: str, delay_seconds: float) -> None:
        self.requests: list[Request] = []
        self.endpoint = ""
        self._target = urlsplit(target)
        self._delay = delay_seconds

    async def serve(self, ready: threading.Event, end: asyncio.Event) -> None:
        """Serve until ``ended``."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 20)
        self.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await end.wait()
        server.close()

    async def _connected(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, on = await asyncio.open_connection(self._target.hostname, self._target.port)
        try:
            while True:
                await self._exchange(near, back, far, on)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # either side has left
        finally:
            back.close()
            on.close()

    async def _exchange(
        self,
        near: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        far: asyncio.StreamReader,
        on: asyncio.StreamWriter,
    ) -> None:
        head = await near.readuntil(END_OF_HEAD)
        start = time.monotonic()
        line, headers = parse(head)
        method, path, _ = line.split(" ")
        await asyncio.sleep(self._delay)
        on.write(head)
        await pass_on(near, on, int(headers.get("content-length", 0)))
        answer = await far.readuntil(END_OF_HEAD)
        line, answer_headers = parse(answer)
        if "chunked" in answer_headers.get("transfer-encoding", ""):
            raise ConnectionError("an answer in chunks is not for objects")
        back.write(as_s3(answer) if "content-range" in answer_headers else answer)
        empty = method == "HEAD" or line.split(" ")[1] in ("204", "304")
        await pass_on(far, back, 0 if empty else int(answer_headers.get("content-length", 0)))
        span = headers.get("range", "")
        path = unquote(urlsplit(path).path)
        self.requests.append(Request(method, path, span, start, time.monotonic()))


@contextmanager
def proxy(target: str, delay_seconds: float) -> Iterator[Proxy]:
    """Serve a proxy to the store at ``target`` until the block is left."""
    server = Proxy(target, delay_seconds)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    end = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve(ready, end)))
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.close()


def most_in_flight(requests: Sequence[Request]) -> int:
    """Return how many requests were under way at the busiest moment."""
    # At one moment an end comes before a beginning.
    events = sorted([(r.start, 1) for r in requests] + [(r.end, -1) for r in requests])
    most = now = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


def parse(head: bytes) -> tuple[str, dict[str, str]]:
    """Return the first line of a request or an answer, and its headers by small name."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields = (line.partition(":") for line in lines)
    return first, {name.lower(): value.strip() for name, _, value in fields}


def as_s3(head: bytes) -> bytes:
    """Return the head of a stretch with the status that S3 gives it; rclone's is a whole file's."""
    return head.replace(b" 200 OK\r\n", b" 206 Partial Content\r\n", 1)


async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter, length: int) -> None:
    """Copy so many bytes as they come."""
    while length:
        piece = await source.read(min(length, PIECE))
        if not piece:
            raise ConnectionError("cut in the middle of a body")
        to.write(piece)
        await to.drain()
        length -= len(piece)
    await to.drain()
