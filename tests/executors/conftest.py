"""One Ray cluster and one Slurm cluster for all tests of this folder, gone after the last of them."""

from collections.abc import Iterator

import pytest
from ray.cluster_utils import Cluster

from tests.executors.ray_cluster import bring_back_lost_nodes, ray_cluster
from tests.executors.slurm_cluster import Slurm, slurm_cluster


@pytest.fixture(scope="package")
def shared_cluster() -> Iterator[Cluster]:
    with ray_cluster(nodes=2) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Cluster:
    """A head and one more node, both alive whatever an earlier test did to them."""
    bring_back_lost_nodes(shared_cluster)
    return shared_cluster


@pytest.fixture(scope="package")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
