"""Files by path and URL."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.help import object_store
from timbre.errors import ConfigError
from timbre.storage import files as storage
from timbre.storage import retries


def test_what_is_published_is_read_back_whole_and_in_ranges(folder_url: str) -> None:
    url = storage.join(folder_url, "a", "b.bin")
    storage.publish(url, bytes(range(200)))
    assert storage.exists(url)
    assert storage.size(url) == 200
    assert storage.read(url) == bytes(range(200))
    assert storage.read_range(url, 10, 5) == bytes(range(10, 15))
    assert storage.read_range(url, 195, 5) == bytes(range(195, 200))
    assert storage.is_folder(storage.join(folder_url, "a"))
    assert not storage.is_folder(url)


@pytest.mark.parametrize("content", [None, "no JSON"])
def test_googles_credentials_that_cannot_be_read_are_refused_by_name(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials.json"
    if content:
        path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(ConfigError, match=rf"^GOOGLE_APPLICATION_CREDENTIALS {path}: .*; expected"):
        storage.read("gs://bucket/a")


def test_a_range_past_the_end_is_an_error_not_a_short_answer(
    folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.0)
    url = storage.join(folder_url, "b.bin")
    storage.publish(url, bytes(10))
    with pytest.raises(OSError, match=r"b\.bin"):
        storage.read_range(url, 5, 10)


def test_a_missing_file_is_an_error_at_once(folder_url: str) -> None:
    for call in (storage.read, storage.size):
        with pytest.raises(FileNotFoundError):
            call(storage.join(folder_url, "none.bin"))
    assert not storage.exists(storage.join(folder_url, "none.bin"))


def test_a_folder_is_no_file(folder_url: str) -> None:
    storage.publish(storage.join(folder_url, "a", "b"), b"x")
    for call in (storage.read, storage.size):
        with pytest.raises(IsADirectoryError, match=f"^{folder_url}/a: "):
            call(storage.join(folder_url, "a"))
    assert storage.exists(storage.join(folder_url, "a"))


def test_remove_is_no_error_twice(folder_url: str) -> None:
    url = storage.join(folder_url, "a")
    storage.publish(url, b"x")
    storage.remove(url)
    storage.remove(url)
    assert not storage.exists(url)


def test_an_unknown_scheme_is_told_by_name() -> None:
    with pytest.raises(ConfigError, match="nosuch://bucket/key"):
        storage.read("nosuch://bucket/key")


def test_a_file_is_read_by_stretches_at_any_place(folder_url: str) -> None:
    data = bytes(range(256)) * 10_000  # more than two blocks
    url = storage.join(folder_url, "a")
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
        storage.open_ranged(storage.join(folder_url, "none"), 5)


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
