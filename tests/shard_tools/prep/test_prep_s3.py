"""`timbre prep` from a bucket into a bucket: the same bytes as on a disk, whatever the store does."""

import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.prep.prep import prep
from shard_tools.verify.manifest import verify
from tests.help.plain_prep import plain_config
from tests.storage.faulty_bucket import Bucket
from tests.storage.faulty_proxy import Fault, Proxy
from timbre import audio, cli
from timbre import config as configs

SHARDS = r"/shard-\d+\.(tar|index)"
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 short clips of modulated noise and 3 noises."""
    folder, rng = tmp_path_factory.mktemp("sources"), np.random.default_rng(0)
    envelope = np.repeat(rng.uniform(0, 0.2, 50), 480).astype(np.float32)
    for number in range(16):
        wave = envelope * rng.standard_normal(24_000).astype(np.float32)
        audio.write(folder / f"speech/s{number % 8}/{number:02d}.wav", wave, 48_000)
    for number in range(3):
        noise = rng.standard_normal(48_000).astype(np.float32) / 8
        audio.write(folder / f"noise/{number}.wav", noise, 48_000)
    return folder


def make_config(root: str, workers: int = 1) -> PrepConfig:
    return plain_config(root, workers=workers, shard_pairs=2, val_ratio=0.2)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".tar", ".index")
    }


@pytest.fixture(scope="module")
def expected(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a local run writes."""
    folder = tmp_path_factory.mktemp("local")
    shutil.copytree(sources, folder, dirs_exist_ok=True)
    prep(make_config(str(folder)))
    files = contents(folder / "out")
    assert len(files) > 12
    return files


@pytest.fixture
def source_bucket(bucket: Bucket, sources: Path) -> Bucket:
    shutil.copytree(sources, bucket.folder, dirs_exist_ok=True)
    return bucket


def test_a_bucket_holds_what_a_disk_would(
    source_bucket: Bucket, expected: dict[str, bytes]
) -> None:
    prep(make_config(source_bucket.url))
    assert contents(source_bucket.folder / "out") == expected
    assert verify(f"{source_bucket.url}/out/manifest.json") == []


@pytest.mark.parametrize("kind", ["status", "reset", "reset before", "short", "drip"])
def test_faults_on_the_way_change_no_byte(
    source_bucket: Bucket, expected: dict[str, bytes], kind: str
) -> None:
    """Every request that is not a listing meets the fault at its first try, clips and shards alike."""
    fault_counts = [
        Fault(kind, method, path, 1, 2)  # type: ignore[arg-type]
        for method in ("GET", "PUT", "HEAD")
        for path in [rf"/speech/s{n}/" for n in range(8)]
        + [r"/noise/", r"/out/[a-z]+/shard", "json"]
    ]
    source_bucket.proxy.fail(*fault_counts)
    prep(make_config(source_bucket.url))
    assert len(source_bucket.proxy.exchanges) > 50
    assert contents(source_bucket.folder / "out") == expected


def test_lost_credentials_stop_the_job_by_name_and_it_goes_on_later(
    source_bucket: Bucket,
    expected: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "prep.yaml").write_text(configs.dump(make_config(source_bucket.url)))
    answer = b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
    source_bucket.proxy.fail(Fault("status", "PUT", SHARDS, 9, code=403, answer=answer))
    assert cli.main(["prep", f"{tmp_path}/prep.yaml"]) == 1
    error = capsys.readouterr().err
    assert error.count("timbre: error:") == 1 and "Traceback" not in error
    assert source_bucket.url in error and "expired" in error.lower()
    some = contents(source_bucket.folder / "out")
    assert 0 < len(some) < len(expected) and some.items() <= expected.items()
    assert not (source_bucket.folder / "out/manifest.json").exists()
    source_bucket.proxy.fail()
    assert cli.main(["prep", f"{tmp_path}/prep.yaml"]) == 0
    assert contents(source_bucket.folder / "out") == expected
    assert source_bucket.proxy.count("PUT", r"\.tar") == (len(expected) - len(some) + 1) // 2


def test_killed_while_it_writes_to_a_bucket_it_ends_with_the_same_bytes(
    source_bucket: Bucket, expected: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "prep.yaml").write_text(configs.dump(make_config(source_bucket.url, workers=2)))
    words = [sys.executable, "-m", "timbre", "prep", f"{tmp_path}/prep.yaml"]
    leftovers = []
    for writes in (1, 4):
        source_bucket.proxy.fail()  # counts from here
        kill_at(words, source_bucket.proxy, writes)
        leftovers.append(len(contents(source_bucket.folder / "out")))
        assert not (source_bucket.folder / "out/manifest.json").exists()
    assert any(0 < files < len(expected) for files in leftovers), leftovers
    source_bucket.proxy.fail()
    subprocess.run(words, check=True, capture_output=True)
    # Bytes are compared at the end, when nothing is half way into the bucket: what was there stays.
    assert contents(source_bucket.folder / "out") == expected
    assert source_bucket.proxy.count("PUT", r"\.index") < len(expected) // 2


def kill_at(words: list[str], proxy: Proxy, writes: int) -> None:
    """Run a command and kill it in its n-th write of a shard; return when its workers are gone."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (
        proxy.count("PUT", SHARDS) < writes
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.002)
    process.kill()
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)  # the workers write to it, too
    assert process.returncode == -signal.SIGKILL, output
    assert proxy.count("PUT", SHARDS) >= writes, output
