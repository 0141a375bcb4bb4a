"""A real Ray cluster on this machine: a head and further nodes of one processor each."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

ROOT = Path(__file__).parents[3]
STORE_BYTES = 80_000_000  # about the least that Ray accepts


@contextmanager
def ray_cluster(nodes: int) -> Iterator[Cluster]:
    """Give a cluster that RAY_ADDRESS names; end all of its processes.

    A node has room for one actor, so actors that run at once are on different nodes.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # where actors find the work of tests
        cluster = Cluster()
        try:
            for number in range(nodes):
                add_node(cluster, number)
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def add_node(cluster: Cluster, number: int, gpus: int = 0) -> Any:
    """Add a node with one processor, and with as many GPUs as it shall claim to have."""
    # Each an address of its own, so that a caller can choose the node it belongs to.
    address = {"node_ip_address": f"127.0.0.{1 + number}"} if number else {}
    return cluster.add_node(
        num_cpus=1, num_gpus=gpus, object_store_memory=STORE_BYTES, include_dashboard=False, **address
    )  # fmt: skip


def bring_back_lost_nodes(cluster: Cluster) -> None:
    """Replace every node of the cluster, the head excepted, whose processes were killed."""
    for number, node in enumerate(list(cluster.list_all_nodes())):
        if node.dead_processes():
            cluster.remove_node(node)
            add_node(cluster, number)
