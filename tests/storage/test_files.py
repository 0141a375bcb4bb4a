"""Files by path and URL."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from tests.help import object_store
from timbre.errors import ConfigError
from timbre.storage import errors as store_errors
from timbre.storage import files as storage
from timbre.storage import retries


@pytest.fixture(params=["local", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "local": str(tmp_path),
        "file": f"file://{tmp_path}",
        "memory": f"memory://{tmp_path.name}",
    }[request.param]


def test_what_is_published_is_read_back_whole_and_in_ranges(folder: str) -> None:
    url = storage.join(folder, "a", "b.bin")
    storage.publish(url, bytes(range(200)))
    assert storage.exists(url)
    assert storage.size(url) == 200
    assert storage.read(url) == bytes(range(200))
    assert storage.read_range(url, 10, 5) == bytes(range(10, 15))
    assert storage.read_range(url, 195, 5) == bytes(range(195, 200))
    assert storage.is_folder(storage.join(folder, "a"))
    assert not storage.is_folder(url)


def test_a_range_past_the_end_is_an_error_not_a_short_answer(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.0)
    url = storage.join(folder, "b.bin")
    storage.publish(url, bytes(10))
    with pytest.raises(OSError, match=r"b\.bin"):
        storage.read_range(url, 5, 10)


def test_a_missing_file_is_an_error_at_once(folder: str) -> None:
    for call in (storage.read, storage.size):
        with pytest.raises(FileNotFoundError):
            call(storage.join(folder, "none.bin"))
    assert not storage.exists(storage.join(folder, "none.bin"))


def test_a_folder_is_no_file(folder: str) -> None:
    storage.publish(storage.join(folder, "a", "b"), b"x")
    for call in (storage.read, storage.size):
        with pytest.raises(IsADirectoryError, match=f"^{folder}/a: "):
            call(storage.join(folder, "a"))
    assert storage.exists(storage.join(folder, "a"))


def test_find_lists_every_file_below_in_order(folder: str) -> None:
    for name in ["b/2", "a", "b/1"]:
        storage.publish(storage.join(folder, *name.split("/")), b"x")
    listing = storage.find_below(folder)
    assert list(listing) == ["a", "b/1", "b/2"]
    assert all(storage.read(url) == b"x" for url in listing.values())


def test_remove_is_no_error_twice(folder: str) -> None:
    url = storage.join(folder, "a")
    storage.publish(url, b"x")
    storage.remove(url)
    storage.remove(url)
    assert not storage.exists(url)


def test_a_failed_write_leaves_neither_a_name_nor_a_remnant(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        storage.publish(tmp_path / "a", "text is not bytes")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_replaced_file_is_never_seen_half_written(tmp_path: Path) -> None:
    url = tmp_path / "a"
    storage.publish(url, b"old")
    inode = url.stat().st_ino
    storage.publish(url, b"new")
    assert url.stat().st_ino != inode  # renamed over, not written into
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_unknown_scheme_is_told_by_name() -> None:
    with pytest.raises(ConfigError, match="nosuch://bucket/key"):
        storage.read("nosuch://bucket/key")


def test_a_remote_failure_is_tried_again_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.0)
    memory = fsspec.filesystem("memory")
    storage.publish("memory://bucket/key", b"data")
    original, failures = type(memory).cat_file, []

    def flaky(self: object, path: str, **keywords: object) -> bytes:
        failures.append(path)
        if len(failures) < 3:
            raise ConnectionResetError("reset by the store")
        data: bytes = original(self, path, **keywords)
        return data

    monkeypatch.setattr(type(memory), "cat_file", flaky)
    assert storage.read("memory://bucket/key") == b"data"
    assert len(failures) == 3
    monkeypatch.setattr(
        type(memory), "cat_file", lambda *_, **__: (_ for _ in ()).throw(OSError("down"))
    )
    with pytest.raises(OSError, match="down"):
        storage.read("memory://bucket/key")


def test_a_librarys_own_errors_are_tried_again_and_told_as_oserror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.0)

    class ClientPayloadError(Exception):
        """As aiohttp's: no OSError."""

    tries = []

    def fails(*_: object, **__: object) -> bytes:
        tries.append(1)
        raise ClientPayloadError("Response payload\n is not completed")

    storage.publish("memory://bucket/key", b"data")
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fails)
    message = r"^memory://bucket/key: Response payload is not completed \(tried 8 times\)$"
    with pytest.raises(OSError, match=message):
        storage.read("memory://bucket/key")
    assert len(tries) == retries.ATTEMPTS


def test_an_outage_of_a_minute_is_outlived_by_waits_that_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in range(20):
        random.seed(seed)
        waits: list[float] = []
        monkeypatch.setattr(time, "sleep", waits.append)
        memory = fsspec.filesystem("memory")
        monkeypatch.setattr(
            type(memory), "cat_file", lambda *_, **__: (_ for _ in ()).throw(OSError("down"))
        )
        storage.publish("memory://bucket/key", b"data")
        with pytest.raises(OSError, match=r"down \(tried 8 times\)"):
            storage.read("memory://bucket/key")
        assert 60 <= sum(waits) <= 90
        assert waits == sorted(waits) and waits[0] < 1 and max(waits) <= 30


class HttpError(Exception):
    """As gcsfs's, of which type and code are known here."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused, {code}")
        self.code = code


@pytest.mark.parametrize(
    "error",
    [
        OSError("Forbidden: https://storage.googleapis.com/b/o\nno storage.objects.get access"),
        OSError("Unauthorized: b/o"),
        ValueError("Bad Request: b/o\nRequest had invalid authentication credentials."),
        HttpError(401),
        HttpError(403),
    ],
    ids=["Forbidden", "Unauthorized", "invalid", "401", "403"],
)
def test_a_refusal_by_google_is_told_at_once(error: Exception) -> None:
    assert store_errors.is_failure(error, remote=True)
    final = store_errors.permanent("gs://b/o", error, remote=True)
    assert isinstance(final, PermissionError)
    assert str(final).startswith("gs://b/o: access refused: ") and "\n" not in str(final)


@pytest.mark.parametrize(
    "error",
    [OSError("Connection reset, not Forbidden"), HttpError(503), ValueError("no content")],
    ids=["reset", "503", "no content"],
)
def test_what_may_pass_is_not_taken_for_a_refusal(error: Exception) -> None:
    assert store_errors.is_failure(error, remote=True)
    assert store_errors.permanent("gs://b/o", error, remote=True) is None


def test_a_bad_request_is_told_at_once_and_only_of_a_store() -> None:
    error = ValueError("Bad Request: b/o\nName is invalid")
    final = store_errors.permanent("gs://b/o", error, remote=True)
    assert type(final) is OSError
    assert str(final) == "gs://b/o: Bad Request: b/o Name is invalid"
    assert not store_errors.is_failure(error, remote=False)


def test_a_fault_of_the_program_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def fails(*_: object, **__: object) -> bytes:
        tries.append(1)
        raise TypeError("unexpected keyword")

    storage.publish("memory://bucket/key", b"data")
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fails)
    with pytest.raises(TypeError, match="unexpected keyword"):
        storage.read("memory://bucket/key")
    assert len(tries) == 1


def test_files_are_found_with_size_and_a_stamp_that_changes_with_the_content(folder: str) -> None:
    for name, data in [("b/2", b"22"), ("a", b""), ("b/c/1", b"1")]:
        storage.publish(storage.join(folder, *name.split("/")), data)
    before = storage.find_files(folder)
    assert [(file.path, file.bytes) for file in before] == [("a", 0), ("b/2", 2), ("b/c/1", 1)]
    assert storage.find_files(folder) == before
    assert storage.find_files(storage.join(folder, "b"))[0] == before[1]._replace(path="2")
    storage.publish(storage.join(folder, "b", "2"), b"44")
    after = storage.find_files(folder)
    assert after[1].stamp != before[1].stamp
    assert after[::2] == before[::2]
    assert storage.find_files(storage.join(folder, "none")) == []


def test_links_are_listed_as_the_files_they_lead_to(tmp_path: Path) -> None:
    storage.publish(tmp_path / "real" / "a", b"123")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "real" / "a")
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    (folder / "itself").symlink_to(folder)
    files = {file.path: file for file in storage.find_files(folder)}
    assert set(files) == {"link", "nowhere"}
    assert files["link"] == storage.find_files(tmp_path / "real")[0]._replace(path="link")
    assert set(storage.find_below(folder)) == {"link", "nowhere"}


KILLED_WRITER = """
import os, signal, sys
from timbre import storage
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
storage.publish(sys.argv[1], bytes(1000))
"""


def test_what_a_killed_writer_leaves_is_not_listed_and_can_be_removed(tmp_path: Path) -> None:
    target = tmp_path / "train" / "shard.tar"
    process = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(target)], check=False)
    assert process.returncode == -signal.SIGKILL
    (remnant,) = target.parent.iterdir()
    mine = [target.parent / name for name in (".hidden", ".shard.tar.tmp", "x.tmp")]
    for path in mine:
        path.touch()
    assert [file.path for file in storage.find_files(tmp_path)] == [
        f"train/{path.name}" for path in sorted(mine)
    ]
    assert storage.remove_stale_temporaries(tmp_path) == 1
    assert sorted(target.parent.iterdir()) == sorted(mine)
    assert remnant not in mine
    assert storage.remove_stale_temporaries(tmp_path) == 0
    assert storage.remove_stale_temporaries("memory://bucket") == 0


def test_what_is_being_written_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    monkeypatch.setattr(
        os, "fsync", lambda _: counts.append(storage.remove_stale_temporaries(tmp_path))
    )
    storage.publish(tmp_path / "a", b"data")
    assert counts == [0]
    assert (tmp_path / "a").read_bytes() == b"data"


def test_the_longest_name_can_be_published(tmp_path: Path) -> None:
    name = "ä" * 125 + ".flac"  # 255 bytes
    storage.publish(tmp_path / name, b"data")
    assert [file.path for file in storage.find_files(tmp_path)] == [name]


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path, old: bytes | None) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        if old is not None:
            storage.publish(disk / "a", old)
        with pytest.raises(OSError, match=r"/a: cannot be written: No space left on device$"):
            storage.publish(disk / "a", bytes(100_000))
        assert [path.read_bytes() for path in disk.iterdir()] == ([] if old is None else [old])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_is_read_by_stretches_at_any_place(folder: str) -> None:
    data = bytes(range(256)) * 10_000  # more than two blocks
    url = storage.join(folder, "a")
    storage.publish(url, data)
    with storage.open_ranged(url, len(data)) as file:
        assert file.seek(-10, os.SEEK_END) == len(data) - 10
        assert file.read() == data[-10:]
        assert file.read(1) == b""
        file.seek(1_000_003)
        assert file.read(200_000) == data[1_000_003:1_200_003]
        file.seek(-200_000, os.SEEK_CUR)
        assert file.tell() == 1_000_003
        file.seek(0)
        assert file.read() == data
        assert file.seek(len(data) + 5) == len(data) + 5
        assert file.read() == b""
    for wrong in (len(data) - 1, len(data) + 1):
        with pytest.raises(OSError, match=f"/a: {len(data)} bytes long, expected {wrong}"):
            storage.open_ranged(url, wrong)
    with pytest.raises(FileNotFoundError):
        storage.open_ranged(storage.join(folder, "none"), 5)


def test_the_bucket_fixture_leads_subprocesses_to_the_same_bucket(
    s3: object_store.Server, s3_bucket: str
) -> None:
    code = "import sys; from timbre import storage; storage.publish(sys.argv[1], b'from afar')"
    subprocess.run([sys.executable, "-c", code, f"{s3_bucket}/a/b"], check=True)
    assert storage.read(f"{s3_bucket}/a/b") == b"from afar"
    assert (s3.folder / s3_bucket.removeprefix("s3://") / "a/b").read_bytes() == b"from afar"
    storage.remove(f"{s3_bucket}/a/b")
    storage.remove(f"{s3_bucket}/a/b")
    assert storage.find_files(s3_bucket) == []
