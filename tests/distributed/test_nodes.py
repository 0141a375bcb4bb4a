"""Training over three hosts on a network, with the shards in a store on a fourth."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests import object_store
from tests.distributed.hosts import INTERFACE, Host, network
from tests.distributed.launch import ROOT
from tests.distributed.test_ranks import write_config
from tests.made_shards import make_shards
from timbre import checkpoint

__all__ = ["network"]

LAUNCH = ROOT / "launch/accelerate/many_nodes.yaml"
STORE_PORT = 9000
# Under load a host may take this long to start; nothing waits for it when all is well.
PATIENCE_SECONDS = 120
STEPS = 18
# All phases of the schedule, with a checkpoint every 3 steps.
GIVEN = (
    f"steps={STEPS}",
    "adversarial={start_step: 5, discriminator_steps: 1, ramp_steps: 3}",
    "validation={perceptual_pairs: 0, harm_pairs: 0, shown_pairs: 0}",
    "validate_every=1000",
    "save_every=3",
    "workers=1",
    "reading={deadline_seconds: 14}",
    "ranks={timeout_seconds: 15}",
)
# Less than deadline_seconds, and so that the tries that double their waits come after it.
AWAY_SECONDS = 5
# Two hosts add other numbers than three: the last bits of a sum differ, and Adam makes more of them.
TOLERANCE = 1e-3


class Job:
    """One training, a launcher on each host; what they print is in ``output``."""

    def __init__(self, hosts: Sequence[Host], store: Host, config: str, *options: str) -> None:
        self.hosts = hosts
        self.output = Path(config).with_name(f"output-{time.monotonic_ns()}")
        environment = {
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": INTERFACE,
            "PYTHONPATH": str(ROOT),
            **object_store.environment(f"http://{store.address}:{STORE_PORT}"),
        }
        words = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCH)]
        words += ["--num_machines", str(len(hosts)), "--num_processes", str(len(hosts))]
        words += ["--main_process_ip", hosts[0].address, *options]
        self.launchers = [
            host.start(
                [*words, "--machine_rank", str(rank), "-m", "timbre.train", config],
                environment,
                self.output,
            )
            for rank, host in enumerate(hosts)
        ]

    def codes(self) -> list[int]:
        """Wait until all launchers have ended; return their exit codes."""
        return [launcher.wait(PATIENCE_SECONDS) for launcher in self.launchers]

    def told(self) -> str:
        """Return what all of them have printed."""
        return self.output.read_text()


def wait_until(happened: Callable[[], object], job: Job) -> None:
    """Look until it has happened; a job that ends before that has failed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, job.told()[-3000:]
        assert all(launcher.poll() is None for launcher in job.launchers), job.told()[-6000:]
        time.sleep(0.05)  # files tell nobody that they have grown


def logged(folder: Path) -> dict[int, float]:
    """Return the loss of each step that the main rank has logged so far."""
    log = folder / "run/logs/rank-00000.log"
    found = re.findall(r"step (\d+) of .*: loss ([0-9.]+)", log.read_text() if log.exists() else "")
    return {int(step): float(loss) for step, loss in found}


def losses(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder / "run/tensorboard"))
    events.Reload()
    curves = {name: events.Scalars(name) for name in ("g/loss", "d/loss", "g/grad_norm")}
    assert [each.step for each in curves["g/loss"]] == [*range(1, STEPS + 1)]
    return {name: [each.value for each in curve] for name, curve in curves.items()}


class Bucket:
    """The store's server, which can be away; ``url`` is the manifest's."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host, self.folder = host, folder
        self.local_url = make_shards(folder / "bucket/shards", [3, 4], [4])
        self.url = "s3://bucket/shards/manifest.json"

    def open(self) -> None:
        address = f"{self.host.address}:{STORE_PORT}"
        command = object_store.serve_command(self.folder, address, fresh=False)
        self.host.start(command, {}, self.folder.with_name("store.log"))

    def close(self) -> None:
        self.host.kill()


@pytest.fixture(scope="module")
def bucket(network: list[Host], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    pytest.importorskip("s3fs")
    bucket = Bucket(network[3], tmp_path_factory.mktemp("store") / "served")
    bucket.open()
    yield bucket
    bucket.close()


@pytest.fixture(scope="module")
def expected(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """The curves of one rank alone that nothing happens to."""
    folder = tmp_path_factory.mktemp("alone")
    config = write_config(folder, bucket.local_url, *GIVEN)
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "timbre.train", config],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
    )
    return losses(folder)


def test_a_host_is_lost_and_two_go_on_as_if_nothing_had_happened(
    network: list[Host], bucket: Bucket, expected: dict[str, list[float]], tmp_path: Path
) -> None:
    """One of three is slow, which changes nothing; then its cable is pulled, so that nobody hears it end."""
    *hosts, store = network
    config = write_config(tmp_path, bucket.url, *GIVEN)
    hosts[2].slow_down("20mbit")
    job = Job(hosts, store, config)
    wait_until(lambda: 7 in logged(tmp_path), job)
    hosts[2].unplug()
    hosts[2].kill()
    assert 0 not in job.codes()
    assert job.told().count("timbre: error:") == 1, job.told()
    assert "another rank has gone, or has not answered for 15 s" in job.told()
    hosts[2].plug()

    job = Job(hosts[:2], store, config)
    assert job.codes() == [0, 0], job.told()[-3000:]
    assert job.told().count("resuming at step") == 1
    for name, curve in losses(tmp_path).items():
        assert curve == pytest.approx(expected[name], rel=TOLERANCE), name


def test_a_store_is_waited_for_and_if_it_stays_away_all_end_with_one_message(
    network: list[Host], bucket: Bucket, expected: dict[str, list[float]], tmp_path: Path
) -> None:
    *hosts, store = network
    config = write_config(tmp_path, bucket.url, *GIVEN)
    job = Job(hosts, store, config)
    wait_until(lambda: 2 in logged(tmp_path), job)
    bucket.close()
    return_time = time.monotonic() + AWAY_SECONDS
    wait_until(lambda: time.monotonic() > return_time, job)
    read_ahead = max(logged(tmp_path))
    bucket.open()
    wait_until(lambda: read_ahead + 1 in logged(tmp_path), job)
    bucket.close()
    codes = job.codes()
    bucket.open()

    assert read_ahead < max(logged(tmp_path)) < STEPS
    for step, loss in logged(tmp_path).items():
        assert loss == pytest.approx(expected["g/loss"][step - 1], rel=TOLERANCE), step
    assert 0 not in codes
    assert job.told().count("timbre: error:") == 1, job.told()
    assert "timbre: error: s3://bucket/shards/train/shard-" in job.told()
    saved = checkpoint.latest(f"{tmp_path}/run")
    assert saved is not None and checkpoint.load(saved)["gan"]["step"] >= 3


def test_a_host_that_never_comes_is_told_in_time(
    network: list[Host], bucket: Bucket, tmp_path: Path
) -> None:
    """The launchers tell it: no rank is started before all of them are there."""
    *hosts, store = network
    config = write_config(tmp_path, bucket.url, *GIVEN)
    three = ["--num_machines", "3", "--num_processes", "3"]
    job = Job(hosts[:2], store, config, *three, "--rdzv_conf", "timeout=3")
    assert job.codes() == [1, 1]
    assert "waiting for clients. 2/3 clients joined." in job.told()
    assert not (tmp_path / "run").exists()
