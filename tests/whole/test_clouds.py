"""Stores of Google and Azure: written and read by prep, train, cache and checkpoint, by both clients."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from shard_tools.verify.manifest import verify
from tests.conftest import ROOT
from tests.help import cloud_servers
from tests.help.plain_prep import make_manifest, plain_config
from timbre import audio, storage
from timbre.audio.synthetic.voice import voice
from timbre.storage import rust_store
from timbre.storage.errors import RefusedError
from timbre.train.command import main as train

SERVERS = {"gs": cloud_servers.google, "az": cloud_servers.azure}
DATA = bytes(range(256)) * 40


@pytest.fixture(scope="module", params=SERVERS)
def cloud(request: pytest.FixtureRequest) -> Iterator[str]:
    with SERVERS[request.param]() as url:
        yield url


def test_prep_train_cache_and_checkpoint_write_to_a_cloud_and_read_from_it(
    cloud: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        talk = voice(0.6, np.random.default_rng(number))
        audio.write(f"{cloud}/speech/s{number}/{number}.flac", talk, 48_000)
    hiss = np.random.default_rng(9).standard_normal(48_000).astype(np.float32) / 9
    audio.write(f"{cloud}/noise/0.flac", hiss, 48_000)
    make_manifest(plain_config(cloud, shard_pairs=2, val_ratio=0.2))
    assert verify(f"{cloud}/out/manifest.json") == []

    def run(steps: int) -> None:
        reading = "{cache_dir: " + str(tmp_path / "cache") + "}"
        options = [
            "segment_seconds=0.4",
            "global_batch=2",
            "workers=0",
            "adversarial.start_step=10",
        ]
        options += ["optimizer.warmup_steps=0", f"steps={steps}"]
        places = [f"data=[{{manifest: {cloud}/out}}]", f"run_dir={cloud}/run", f"reading={reading}"]
        assert not train([str(ROOT / "configs/train_tiny.yaml"), *places, *options])

    run(1)
    run(2)
    assert list((tmp_path / "cache").glob("*.shard"))
    assert "resuming at step 1 of 2" in capsys.readouterr().err
    events = storage.find_files(f"{cloud}/run/tensorboard")
    assert len(events) == 2  # of each start, whole
    assert all(file.bytes > 1000 for file in events)


def test_what_is_written_is_read_whole_in_stretches_and_listed(cloud: str) -> None:
    url = f"{cloud}/a folder/x"
    assert not storage.exists(url)
    storage.publish(url, DATA)
    assert storage.read(url) == DATA
    assert [storage.read_range(url, n, 5000) for n in range(3)] == [
        DATA[n : n + 5000] for n in range(3)
    ]
    for offset in (len(DATA) - 5, len(DATA) + 5):
        with pytest.raises(OSError, match=f"{len(DATA)} bytes long, expected 10 bytes at {offset}"):
            storage.read_range(url, offset, 10)
    assert [(file.path, file.bytes) for file in storage.find_files(f"{cloud}/a folder")] == [
        ("x", len(DATA))
    ]
    assert storage.exists(f"{cloud}/a folder")
    assert storage.is_folder(f"{cloud}/a folder")
    assert not storage.is_folder(url)
    assert storage.is_writable(f"{cloud}/a folder")
    storage.remove(url)
    for read in (storage.read, storage.size, lambda url: storage.read_range(url, 0, 5)):
        with pytest.raises(FileNotFoundError, match=f"^{url}: "):
            read(url)


@contextmanager
def by_obstore_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Note which objects obstore reads."""
    keys: list[str] = []
    original = rust_store._read

    async def noted(bucket: rust_store._Bucket, key: str, start: int, end: int) -> bytes | None:
        data = await original(bucket, key, start, end)
        keys.append(key)
        return data

    monkeypatch.setattr(rust_store, "_read", noted)
    yield keys


def test_obstore_reads_from_azure_as_adlfs_does(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    with cloud_servers.azure() as url, by_obstore_alone(monkeypatch) as keys:
        storage.publish(f"{url}/a/x", DATA)
        stretches = [storage.read_range(f"{url}/a/x", n, 1000) for n in (0, 7, 9)]
        assert stretches == [DATA[n : n + 1000] for n in (0, 7, 9)]
        assert keys == ["a/x"] * 2


def test_a_wrong_key_of_azure_is_one_clear_error() -> None:
    with cloud_servers.azure() as url:
        right = os.environ["AZURE_STORAGE_CONNECTION_STRING"]
        wrong = {"AZURE_STORAGE_CONNECTION_STRING": right.replace("Eby8", "Abc8")}
        with cloud_servers.environment("az", wrong):
            for ask in (storage.read, storage.find_files, lambda url: storage.publish(url, b"x")):
                with pytest.raises(RefusedError, match=f"^{url}/a: access refused: ") as error:
                    ask(f"{url}/a")
                assert "RequestId" not in str(error.value)
                assert "\n" not in str(error.value)
