"""A store by HTTP that drips its answers, or says that its files are elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DATA = bytes(range(256)) * 8
DRIP_SECONDS = 0.2


class HttpStore(ThreadingHTTPServer):
    """Answers every path with DATA; ``requests`` are the paths that were asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), _Handler)
        self.requests: list[str] = []
        self.elsewhere = ""
        self.drips = False

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HttpStore

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        if self.server.elsewhere and not self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if not self.server.drips:
            self.wfile.write(DATA)
            return
        try:
            for place in range(len(DATA)):
                self.wfile.write(DATA[place : place + 1])
                time.sleep(DRIP_SECONDS)
        except OSError:
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def http_store(host: str = "127.0.0.1") -> Iterator[HttpStore]:
    """Serve until the block ends."""
    store = HttpStore(host)
    thread = threading.Thread(target=store.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.shutdown()
        store.server_close()
