"""Shards in a folder that is served over HTTP, signed as a whole, with ranges and without."""

import re
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import ClassVar
from urllib.parse import parse_qs, unquote

import pytest

from tests.help.made_shards import make_shards
from timbre import storage
from timbre.command import FAILED, command
from timbre.shards.corpus import DataSource, open_corpus
from timbre.storage.errors import RefusedError
from timbre.stream import PairStream, StreamConfig

TOKEN = "sv=1&sig=a%2Fb%3D"


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder to whoever has the token."""

    protocol_version = "HTTP/1.1"
    knows_ranges: ClassVar[bool]

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        file = Path(self.directory, unquote(path).lstrip("/"))
        is_signed = parse_qs(query) == parse_qs(TOKEN)
        if not is_signed or not file.is_file():
            self.send_response(404 if is_signed else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data, status = file.read_bytes(), 200
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if span and self.knows_ranges:
            data = data[int(span[1]) : int(span[2]) + 1]
            status = 206 if data else 416
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Serve a connection; clients may leave in the middle."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    make_shards(folder / "my shards", [5, 4])
    (folder / "x").write_bytes(bytes(range(200)))
    return folder


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def served(shards: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    class Served(Handler):
        knows_ranges = request.param

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Served, directory=str(shards)))
    server.daemon_threads, server.block_on_close = True, False
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def serve(manifest: str) -> list[object]:
    corpus = open_corpus(DataSource(manifest), "train")
    stream = PairStream([corpus], StreamConfig(4800, 3, 3, 2, 0))
    return [(batch.keys, zlib.crc32(batch.degraded.numpy())) for batch in islice(stream, 6)]


@pytest.mark.parametrize("name", ["my%20shards", "my%20shards/manifest.json"])
def test_a_signed_folder_is_served_like_one_on_a_disk(served: str, shards: Path, name: str) -> None:
    assert serve(f"{served}/{name}?{TOKEN}") == serve(f"{shards}/my shards")


def test_a_stretch_is_what_is_asked_for_wherever_the_file_ends(served: str, shards: Path) -> None:
    data, url = bytes(range(200)), f"{served}/x?{TOKEN}"
    for offset, length in [(0, 200), (0, 3), (50, 20), (199, 1)]:
        assert storage.read_range(url, offset, length) == data[offset : offset + length]
    for offset in (100, 200, 300):  # 200 bytes would come, of another place
        with pytest.raises(OSError, match=rf"200 bytes long, expected 200 bytes at {offset}"):
            storage.read_range(url, offset, 200)


def test_a_signature_that_is_not_valid_is_one_clear_error_without_it(
    served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{served}/my%20shards?sig=expired"
    with pytest.raises(RefusedError, match="access refused: "):
        storage.read(storage.join(url, "manifest.json"))
    assert command(lambda _: open_corpus(DataSource(url), "train"))([]) == FAILED
    message = capsys.readouterr().err
    assert "access refused" in message
    assert "expired" not in message.replace("not expired", "")


def test_the_query_stays_behind_the_path() -> None:
    assert storage.join("https://h/a/?k=v/w", "b", "c") == "https://h/a/b/c?k=v/w"
    assert storage.join("s3://h/a?k", "b") == "s3://h/a?k/b"
    assert storage.join("a?b", "c") == "a?b/c"
