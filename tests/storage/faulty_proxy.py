"""A loopback HTTP proxy in front of a store that does to requests what networks do.

Requests are passed on as they came, with the host that was signed, so signatures stay valid.
"""

import http.client
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Literal
from urllib.parse import urlsplit

# An answer that stalls is given up after this long, so that no test can hang.
LONGEST_STALL_SECONDS = 30.0

Kind = Literal["status", "reset", "reset before", "short", "stall", "drip", "flip", "delay"]


@dataclass(frozen=True)
class Fault:
    """What to do to the ``first`` to ``last`` of the requests that match.

    ``status``: answer ``code``, ``headers`` and ``answer`` without passing on. ``reset before``: the same with a
    TCP reset.
    ``reset``: reset in the middle of the answer's body. ``short``: only ``keep`` of the body, under a
    matching Content-Length. ``stall``: nothing more after half of the body. ``drip``: ten pieces with
    a pause before each. ``flip``: one bit of the body is another. ``delay``: the answer comes so much
    later.
    """

    kind: Kind
    method: str = "[A-Z]+"
    path: str = ".*"
    first: int = 1
    last: int = 2**31
    code: int = 503
    answer: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    keep: float = 0.5
    delay_seconds: float = 0.05


@dataclass
class Exchange:
    """One request and how much of an answer's body it got."""

    method: str
    path: str
    range: str | None
    agent: str
    bytes_sent: int = 0


@dataclass
class Proxy:
    """What the test says and sees: faults to make, requests that came."""

    target: str
    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _matches: dict[Fault, int] = field(default_factory=dict)

    def fail(self, *faults: Fault) -> None:
        """Make these faults, and no others, from now on, and forget the requests so far."""
        with self._lock:
            self.faults[:] = faults
            self.exchanges.clear()
            self.most_at_once = 0
            self._matches.clear()

    def count(self, method: str, path: str = ".*") -> int:
        """Return how many such requests came."""
        return sum(e.method == method and bool(re.search(path, e.path)) for e in self.exchanges)

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Count the requests that are being answered."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def record(self, exchange: Exchange) -> Fault | None:
        """Note a request; return the fault that it meets."""
        with self._lock:
            self.exchanges.append(exchange)
            for fault in self.faults:
                if re.fullmatch(fault.method, exchange.method) and re.search(
                    fault.path, exchange.path
                ):
                    number = self._matches[fault] = self._matches.get(fault, 0) + 1
                    if fault.first <= number <= fault.last:
                        return fault
        return None


@contextmanager
def faulty_proxy(target: str) -> Iterator[Proxy]:
    """Serve a proxy to the store at ``target`` until the block is left."""
    owner = Proxy(target)

    class Handler(_Handler):
        proxy = owner

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    owner.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield owner
    finally:
        owner.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default 5 loses connections that are made at once


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[Proxy]

    def pass_on(self) -> None:
        with self.proxy.one_more():
            self.answer()

    def answer(self) -> None:
        agent = self.headers.get("User-Agent", "")
        exchange = Exchange(self.command, self.path, self.headers.get("Range"), agent)
        fault = self.proxy.record(exchange)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault and fault.kind == "reset before":
            self.reset()
            return
        if fault and fault.kind == "status":
            status, content = fault.code, fault.answer
            headers = [("Content-Length", str(len(content))), *fault.headers]
        else:
            status, headers, content = self.ask(body)
        if fault and fault.kind == "delay":
            self.proxy.closing.wait(fault.delay_seconds)
        if fault and fault.kind == "flip" and content:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        if fault and fault.kind == "short" and self.command != "HEAD":
            content = content[: int(len(content) * fault.keep)]
            headers = [(n, v) for n, v in headers if n.lower() != "content-length"]
            headers.append(("Content-Length", str(len(content))))
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        exchange.bytes_sent = self.send_body(content, fault)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = pass_on  # noqa: N815 - http.server's names

    def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return the store's status, headers and body; 502 if it cannot be reached."""
        target = urlsplit(self.proxy.target)
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=30)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
        except OSError:
            return 502, [("Content-Length", "0")], b""
        finally:
            connection.close()
        own_headers = ("connection", "transfer-encoding", "content-length")
        headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in own_headers]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        if answer.status != 204:
            headers.append(("Content-Length", length or str(len(content))))
        # A stretch has another status than the whole: S3 says so, rclone 1.75 does not.
        is_stretch = answer.status == 200 and answer.getheader("Content-Range") is not None
        return 206 if is_stretch else answer.status, headers, content

    def send_body(self, content: bytes, fault: Fault | None) -> int:
        """Send the answer's body as the fault wants it; return how many bytes went out."""
        kind = fault.kind if fault else ""
        half = len(content) // 2
        if kind == "reset":
            self.wfile.write(content[:half])
            self.reset()
            return half
        if kind == "stall":
            self.wfile.write(content[:half])
            self.proxy.closing.wait(LONGEST_STALL_SECONDS)
            self.close_connection = True
            return half
        pieces = 10 if kind == "drip" else 1
        step = len(content) // pieces + 1
        for start in range(0, len(content), step):
            if kind == "drip":
                self.proxy.closing.wait(0.02)
            self.wfile.write(content[start : start + step])
        return len(content)

    def reset(self) -> None:
        """Close the connection with a TCP reset instead of a proper end."""
        linger_no_time = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
        self.close_connection = True
        os.close(self.connection.detach())

    def handle(self) -> None:
        """Serve a connection; clients may leave at any time."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *parts: object) -> None:
        """Say nothing."""
