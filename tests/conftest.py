"""Fixtures of several test files: a corpus, shards, an S3 server, clusters of Ray and Slurm."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
import pytest
import torch

from shard_tools.config import PrepConfig
from shard_tools.prep.prep import prep
from tests.help import object_store
from tests.help.object_store import Server, environment, forget_connections, use_environment
from tests.shard_tools.executors.slurm_cluster import Slurm, slurm_cluster
from tests.storage.faulty_bucket import DATA, Bucket
from tests.storage.faulty_proxy import Proxy, faulty_proxy
from timbre import config as configs
from timbre.audio.synthetic.corpus import write_corpus
from timbre.storage import retries

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

ROOT = Path(__file__).parents[1]
# Files that start servers and then wait for them. They come first, so that one process waits
# while the other computes.
SLOW_FIRST = (
    "tests/shard_tools/executors/",
    "tests/shard_tools/prep/",
    "tests/whole/test_launch.py",
    "tests/train/distributed/",
    "tests/storage/",
    "tests/stream/test_s3.py",
)

s3, s3_bucket = object_store.s3, object_store.s3_bucket


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT).as_posix()
        return next(
            (n for n, slow in enumerate(SLOW_FIRST) if path.startswith(slow)), len(SLOW_FIRST)
        )

    items.sort(key=place)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """speech/ noise/ rir/ manifest.jsonl: 4 speakers with 2 clips of 4.5 s."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, seed=5, speakers=4, clips_per_speaker=2, seconds=4.5)
    return folder


@pytest.fixture(scope="session")
def prep_config(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> PrepConfig:
    return configs.load(
        PrepConfig,
        ROOT / "configs/prep_tiny.yaml",
        [
            *(f"{role}={corpus}/{role}" for role in ("speech", "noise", "rir")),
            f"output={tmp_path_factory.mktemp('shards')}",
            "workers=1",
            "reverb.share=0.2",
        ],
    )


@pytest.fixture(scope="session")
def manifest_url(prep_config: PrepConfig) -> str:
    """The manifest of shards with DeepFilterNet3's real output."""
    prep(prep_config)
    return f"{prep_config.output}/manifest.json"


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator["Cluster"]:
    from tests.shard_tools.executors.ray_cluster import ray_cluster

    with ray_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: "Cluster") -> "Cluster":
    """A head and one more node, both alive whatever an earlier test did to them."""
    from tests.shard_tools.executors.ray_cluster import bring_back_lost_nodes

    bring_back_lost_nodes(shared_cluster)
    return shared_cluster


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def proxy(s3: Server) -> Iterator[Proxy]:
    """One proxy for all tests of a file: a client takes most of a second to make."""
    with pytest.MonkeyPatch.context() as patch, faulty_proxy(s3.endpoint) as proxy:
        # So that s3fs would read DATA in parts.
        patch.setattr(fsspec.get_filesystem_class("s3"), "default_block_size", 1000)
        use_environment(patch, environment(proxy.endpoint))
        yield proxy
        forget_connections()


@pytest.fixture
def bucket(s3: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket; no fault yet."""
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)
    name = s3.make_bucket()
    (s3.folder / name / "a").mkdir()
    (s3.folder / name / "a" / "x").write_bytes(DATA)
    proxy.fail()
    return Bucket(f"s3://{name}", s3.folder / name, proxy)


@pytest.fixture
def new_connections() -> Iterator[None]:
    """For tests that change what a connection is made of."""
    forget_connections()
    yield
    forget_connections()
