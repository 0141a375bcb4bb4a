"""Files by path and URL."""

from pathlib import Path

import fsspec
import pytest

from timbre import storage
from timbre.errors import ConfigError


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
    monkeypatch.setattr(storage, "FIRST_WAIT_SECONDS", 0.0)
    url = storage.join(folder, "b.bin")
    storage.publish(url, bytes(10))
    with pytest.raises(OSError, match=r"b\.bin"):
        storage.read_range(url, 5, 10)


def test_a_missing_file_is_an_error_at_once(folder: str) -> None:
    for call in (storage.read, storage.size):
        with pytest.raises(FileNotFoundError):
            call(storage.join(folder, "none.bin"))
    assert not storage.exists(storage.join(folder, "none.bin"))


def test_find_lists_every_file_below_in_order(folder: str) -> None:
    for name in ["b/2", "a", "b/1"]:
        storage.publish(storage.join(folder, *name.split("/")), b"x")
    found = storage.find_below(folder)
    assert list(found) == ["a", "b/1", "b/2"]
    assert all(storage.read(url) == b"x" for url in found.values())


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
    monkeypatch.setattr(storage, "FIRST_WAIT_SECONDS", 0.0)
    memory = fsspec.filesystem("memory")
    storage.publish("memory://bucket/key", b"data")
    original, failures = type(memory).cat_file, []

    def flaky(self: object, path: str, **given: object) -> bytes:
        failures.append(path)
        if len(failures) < 3:
            raise ConnectionResetError("reset by the store")
        return original(self, path, **given)

    monkeypatch.setattr(type(memory), "cat_file", flaky)
    assert storage.read("memory://bucket/key") == b"data"
    assert len(failures) == 3
    monkeypatch.setattr(
        type(memory), "cat_file", lambda *_, **__: (_ for _ in ()).throw(OSError("down"))
    )
    with pytest.raises(OSError, match="down"):
        storage.read("memory://bucket/key")
