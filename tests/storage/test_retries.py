"""When a store is asked again, how long it waits, and which error comes at last."""

import random
import time

import fsspec
import pytest

from timbre.storage import files as storage
from timbre.storage import retries


def failing_reads(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[int]:
    """Have every read of ``memory://bucket/key`` raise this; return a list that grows with each."""
    tries = []

    def fails(*_: object, **__: object) -> bytes:
        tries.append(1)
        raise error

    storage.publish("memory://bucket/key", b"data")
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", fails)
    return tries


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
    failing_reads(monkeypatch, OSError("down"))
    with pytest.raises(OSError, match="down"):
        storage.read("memory://bucket/key")


def test_a_librarys_own_errors_are_tried_again_and_told_as_oserror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.0)

    class ClientPayloadError(Exception):
        """An error like aiohttp's, which is no OSError."""

    error = ClientPayloadError("Response payload\n is not completed")
    tries = failing_reads(monkeypatch, error)
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
        failing_reads(monkeypatch, OSError("down"))
        with pytest.raises(OSError, match=r"down \(tried 8 times\)"):
            storage.read("memory://bucket/key")
        assert 60 <= sum(waits) <= 90
        assert waits == sorted(waits) and waits[0] < 1 and max(waits) <= 30


def test_a_fault_of_the_program_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = failing_reads(monkeypatch, TypeError("unexpected keyword"))
    with pytest.raises(TypeError, match="unexpected keyword"):
        storage.read("memory://bucket/key")
    assert len(tries) == 1
