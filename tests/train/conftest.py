"""Made-up shards and a finished run, for all tests of training."""

from pathlib import Path

import pytest

from tests.help.made_shards import make_shards, rewrite_shard
from tests.train.runs import WHOLE_RUN, config
from timbre.train.loop import train


@pytest.fixture(scope="session")
def noise_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [4, 4], [2])


@pytest.fixture(scope="session")
def pair_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One step an epoch: the discriminator learns from step 5 on."""
    return make_shards(tmp_path_factory.mktemp("pair"), [2], [1])


@pytest.fixture(scope="session")
def whole_run(pair_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps, adversarial from the sixth on, saved at every second."""
    run_dir = tmp_path_factory.mktemp("whole_run")
    train(config(pair_url, run_dir, *WHOLE_RUN))
    return run_dir


@pytest.fixture(scope="session")
def urls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Seven validation pairs: neither even over two ranks, nor of one length, nor alike."""
    folder = tmp_path_factory.mktemp("shards")
    manifests = [
        make_shards(folder / "1", [4], [3, 2]),
        make_shards(folder / "2", [4], [2], "wav", 0.4),
    ]
    rewrite_shard(
        manifests[1],
        "val/shard-000000.tar",
        lambda pair: pair._replace(degraded=pair.degraded // 4),
    )
    return manifests
