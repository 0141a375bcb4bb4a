"""Tasks on a real Ray cluster of two nodes: all done, and done elsewhere when a node dies."""

import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from shard_tools.executors import ray as ray_executor
from shard_tools.executors.local import ALLOCATOR
from shard_tools.executors.ray import RETRIES, run_ray
from shard_tools.mix.bank import Bank, fill_bank
from tests.shard_tools.executors.ray_cluster import add_node
from tests.shard_tools.executors.test_local import raise_or_hang, square, started_with
from timbre.errors import ConfigError, WorkError
from timbre.processes import RaisedInWorkerError

SAMPLES = 500_000


class Surroundings(NamedTuple):
    """Where a task ran: its node, and the banks and threads that it had there."""

    node: str
    mapping: str
    writeable: bool
    total: int
    wave: bytes
    threads: int
    environment: dict[str, str]


class DeadlyWork:
    """``number -> number``; the first ``times`` processes that it arrives in die of it."""

    def __init__(self, folder: Path, times: int) -> None:
        self.folder, self.times = folder, times

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        for number in range(self.times):
            with suppress(FileExistsError):
                (self.folder / str(number)).touch(exist_ok=False)
                os._exit(1)

    def __call__(self, number: int) -> int:
        return number


def meet(place: Path, number: int) -> None:
    """Return when both 0 and 1 are here: a pipe opens when it is opened at both ends."""
    with place.open("r" if number else "w"):
        pass


def look(place: Path, job: tuple[str, Bank], number: int) -> Surroundings:
    meet(place, number)
    samples = job[1].samples
    return Surroundings(
        ray.get_runtime_context().get_node_id(),
        mapping_of(samples.ctypes.data),
        samples.flags.writeable,
        int(samples.astype(int).sum()),
        job[1].wave(1)[:100].tobytes(),
        torch.get_num_threads(),
        started_with(number),
    )


def mapping_of(address: int) -> str:
    """Return the file that this process has mapped at an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *path = line.split(maxsplit=5)
        first, last = (int(edge, 16) for edge in span.split("-"))
        if first <= address < last:
            return path[0] if path else ""
    return ""


def lose_a_node(folder: Path, head: str, number: int) -> str:
    """End one node while task 0 or 1 runs there; return where the task is done."""
    node: str = ray.get_runtime_context().get_node_id()
    if number < 2 and not (folder / "lost").exists():
        meet(folder / "both", number)
        if node != head:
            (folder / "lost").write_text(str(number))
            os.kill(os.getppid(), signal.SIGKILL)  # the node's raylet
            threading.Event().wait()
    return node


def die(folder: Path, times: int, number: int) -> int:
    """End this process when task 3 begins for the first ``times``."""
    if number == 3 and (starts := len(list(folder.iterdir()))) < times:
        (folder / str(starts)).touch()
        os._exit(1)
    return number


def node_of(_: int) -> str:
    node: str = ray.get_runtime_context().get_node_id()
    return node


def meet_elsewhere(place: Path, number: int) -> str:
    meet(place, number)
    return node_of(number)


def process_of(_: int) -> int:
    return os.getpid()


def test_both_nodes_do_tasks_and_the_actors_of_a_node_share_the_banks(
    cluster: Cluster, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    waves = rng.uniform(-0.9, 0.9, (2, SAMPLES)).astype(np.float32)
    bank = fill_bank(("a", "b"), [SAMPLES, SAMPLES], lambda number: [waves[number]], "noise")
    os.mkfifo(tmp_path / "both")
    work = partial(look, tmp_path / "both", ("a bank inside of a job", bank))
    surroundings = dict(run_ray(work, [0, 1], 2))
    assert len({one.node for one in surroundings.values()}) == 2
    for one in surroundings.values():
        assert one.total == int(bank.samples.astype(int).sum())
        assert one.wave == bank.wave(1)[:100].tobytes()
        assert "plasma" in one.mapping  # the node's own store: no copy per actor
        assert not one.writeable
        assert one.threads == 1
        assert {name: one.environment.get(name) for name in ALLOCATOR} == ALLOCATOR
    assert not ray.is_initialized()


@pytest.mark.parametrize(("total", "workers"), [(0, 2), (7, 3)])
def test_every_task_is_done_once_by_any_number_of_actors(
    cluster: Cluster, total: int, workers: int
) -> None:
    results = list(run_ray(square, range(total), workers))
    assert sorted(results) == [(number, number * number) for number in range(total)]


def test_what_a_task_raises_reaches_the_caller_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"clip 3|a\.wav") as failure:
        list(run_ray(partial(raise_or_hang, tmp_path, "RuntimeError"), range(9), 2))
    assert type(failure.value) is RuntimeError
    assert not isinstance(failure.value, ray.exceptions.RayError)
    assert isinstance(failure.value.__cause__, RaisedInWorkerError)
    assert {path.name for path in tmp_path.iterdir()} <= {"0", "1"}


def test_a_task_whose_actor_dies_is_done_by_another(cluster: Cluster, tmp_path: Path) -> None:
    results = [result for _, result in run_ray(partial(die, tmp_path, 2), range(8), 2)]
    assert sorted(results) == list(range(8))
    assert len(list(tmp_path.iterdir())) == 2


def test_actors_that_die_as_they_start_are_counted_each_by_itself(
    cluster: Cluster, tmp_path: Path
) -> None:
    results = dict(run_ray(DeadlyWork(tmp_path, times=RETRIES + 1), range(8), RETRIES + 1))
    assert results == {number: number for number in range(8)}
    assert len(list(tmp_path.iterdir())) == RETRIES + 1


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_never_starts_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "RETRIES", 1)
    with pytest.raises(WorkError, match="cannot start an actor"):
        list(run_ray(DeadlyWork(tmp_path, times=99), range(8), 1))
    assert len(list(tmp_path.iterdir())) == 2


def test_only_work_that_uses_gpus_has_one_actor_for_each(cluster: Cluster, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "both")
    node = add_node(cluster, 2, gpus=1)
    try:
        assert set(dict(run_ray(node_of, range(4), 3)).values()) == {node.node_id}
        results = dict(run_ray(partial(meet_elsewhere, tmp_path / "both"), [0, 1], 2, gpu=False))
        assert len(set(results.values())) == 2
    finally:
        cluster.remove_node(node)


@pytest.mark.usefixtures("cluster")
def test_a_task_that_every_actor_dies_of_ends_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "RETRIES", 1)
    with pytest.raises(WorkError, match="2 actors died of the same task"):
        list(run_ray(partial(die, tmp_path, 99), range(8), 1))
    assert len(list(tmp_path.iterdir())) == 2


def test_actors_end_when_the_caller_wants_no_more(cluster: Cluster) -> None:
    results = run_ray(process_of, range(9), 2)
    _, process = next(results)
    actor = psutil.Process(process)
    results.close()
    actor.wait(timeout=30)
    assert not ray.is_initialized()


def test_without_a_cluster_it_is_told_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(WorkError, match=r"127\.0\.0\.1:1: .*refused.*ray start --head"):
        list(run_ray(square, [1], 1))
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS=ray://.*: expected HOST:PORT"):
        list(run_ray(square, [1], 1))


def test_without_ray_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install timbre\[ray\]"):
        list(run_ray(square, [1], 1))


def test_when_a_node_dies_its_task_is_done_by_another_node(
    cluster: Cluster, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "both")
    # The caller belongs to the head, which stays: it would end with a node of its own.
    ray.init(address=cluster.address, _node_ip_address=cluster.head_node.node_ip_address)
    head = ray.get_runtime_context().get_node_id()
    assert head == cluster.head_node.node_id
    results = dict(run_ray(partial(lose_a_node, tmp_path, head), range(10), 2))
    assert sorted(results) == list(range(10))
    assert results[int((tmp_path / "lost").read_text())] == head
    assert ray.is_initialized()  # a connection of the caller's stays the caller's
    ray.shutdown()
