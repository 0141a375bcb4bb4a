"""Another program's tars where nothing can be written: the indexes go to the user's cache folder."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import pytest

from tests.shards.test_foreign import corpus, pairs, write
from timbre import shards
from timbre.errors import ShardError
from timbre.stream import PairStream, ReadingConfig, StreamConfig

# Takes root's right to write everywhere.
AS_USER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
OPEN = """
import sys
from timbre.shards import DataSource, PairList, open_corpus
for split in ("train", "val", "train"):
    corpus = open_corpus(DataSource(sys.argv[1]), split)
    print(len(list(PairList([corpus]))), corpus.index_folder)
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "shards/train/a.tar", pairs(0, 5))
    write(tmp_path / "shards/val/b.tar", pairs(5, 2))
    return tmp_path / "shards"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/timbre"


@pytest.fixture
def page(folder: Path) -> Iterator[str]:
    """The folder as a web server shows it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="root writes everywhere"
)
def test_tars_on_a_disk_that_may_only_be_read_are_indexed_elsewhere(
    folder: Path, cache: Path
) -> None:
    places = [folder, folder / "train", folder / "val"]
    for place in places:
        place.chmod(0o555)
    as_user = AS_USER if os.geteuid() == 0 else []
    command = [*as_user, sys.executable, "-c", OPEN, str(folder)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    for place in places:
        place.chmod(0o755)
    counts, homes = zip(*map(str.split, process.stdout.splitlines()), strict=True)
    assert counts == ("5", "2", "5") and len(set(homes)) == 1, process.stderr
    assert Path(homes[0]).is_relative_to(cache)
    line = (
        f"timbre: warning: {folder}: cannot be written to; the indexes of its tars go to {homes[0]}"
    )
    assert process.stderr.splitlines() == [line]
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["a.tar", "b.tar"]


def test_tars_of_a_web_server_are_served_like_those_of_a_disk(
    folder: Path, cache: Path, page: str, tmp_path: Path
) -> None:
    # This server knows no ranges: whole tars are fetched.
    reading = ReadingConfig(cache_dir=str(tmp_path / "copies"))
    remote = corpus(page)
    assert remote == corpus(page) and remote.shards == corpus(folder).shards
    assert Path(remote.index_folder).is_relative_to(cache)
    shape = StreamConfig(4800, 2, 0, 2, 0, reading=reading)
    batches = islice(PairStream([remote], shape), 3)
    for ours, other in zip(islice(PairStream([corpus(folder)], shape), 3), batches, strict=True):
        assert ours.keys == other.keys and ours.clean.equal(other.clean)


def test_a_damaged_index_in_the_cache_folder_is_named(cache: Path, page: str) -> None:
    remote = corpus(page)
    index = Path(remote.index_folder, "train/a.index")
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(ShardError, match=f"{index}: sha256"):
        shards.PairList([remote])[0]


def test_without_any_place_for_the_indexes_both_are_named(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        ShardError, match=rf"{page}: .*neither there .*{tmp_path}/file.*set XDG_CACHE_HOME"
    ):
        corpus(page)
