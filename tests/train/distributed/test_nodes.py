"""Training over three hosts on a network, with the shards in a store on a fourth."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.help import object_store
from tests.help.made_shards import make_shards
from tests.train.distributed.hosts import INTERFACE, Host, network
from tests.train.distributed.launch import ROOT
from tests.train.distributed.test_ranks import write_config
from timbre import config as configs
from timbre.models import checkpoint
from timbre.train import checkpoints
from timbre.train.config import TrainConfig
from timbre.train.loop import train

__all__ = ["network"]

LAUNCH = ROOT / "launch/accelerate/many_nodes.yaml"
STORE_PORT = 9000
# Under load a host may take this long to start; nothing waits for it when all is well.
PATIENCE_SECONDS = 240
STEPS = 18
# All phases of the schedule, with a checkpoint every 3 steps.
OVERRIDES = (
    f"steps={STEPS}",
    "adversarial={start_step: 5, discriminator_steps: 1, ramp_steps: 3}",
    "validation={perceptual_pairs: 0, harm_pairs: 0, shown_pairs: 0}",
    "validate_every=1000",
    "save_every=3",
    "workers=1",
    "segment_seconds=0.1",
    "reading={deadline_seconds: 14}",
    "ranks={timeout_seconds: 60}",
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

    def printed_text(self) -> str:
        """Return what all of them have printed."""
        return self.output.read_text()


def wait_until(has_happened: Callable[[], object], job: Job) -> None:
    """Wait until it has happened. A job that ends before that has failed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not has_happened():
        assert time.monotonic() < deadline, job.printed_text()[-3000:]
        assert all(launcher.poll() is None for launcher in job.launchers), job.printed_text()[
            -3000:
        ]
        time.sleep(0.05)  # files tell nobody that they have grown


def losses_by_step(folder: Path, again: bool = False) -> dict[int, float]:
    """Return the loss of each step that the main rank has logged, before or ``again`` after it resumed."""
    log = folder / "run/logs/rank-00000.log"
    parts = (log.read_text() if log.exists() else "").split("resuming at step")
    matches = re.findall(r"step (\d+) of .*: loss ([0-9.]+)", parts[again]) if parts[again:] else []
    return {int(step): float(loss) for step, loss in matches}


def scalars(folder: Path, name: str) -> dict[int, float]:
    events = EventAccumulator(str(folder / "run/tensorboard"))
    events.Reload()
    return {each.step: each.value for each in events.Scalars(name)}


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


class Story(NamedTuple):
    """What happened: three hosts until one was lost, two until their store was."""

    folder: Path
    three: Job
    codes_of_three: list[int]
    two: Job
    codes_of_two: list[int]


@pytest.fixture(scope="module")
def story(
    network: list[Host], bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    """One of three is slow; their store is away for a while; the slow one is killed. Two go on from the
    checkpoint; their store goes away for good.
    """
    *hosts, store = network
    folder = tmp_path_factory.mktemp("story")
    config = write_config(folder, bucket.url, *OVERRIDES)
    hosts[2].slow_down("20mbit")
    three = Job(hosts, store, config)
    wait_until(lambda: 2 in losses_by_step(folder), three)
    bucket.close()
    back = time.monotonic() + AWAY_SECONDS
    wait_until(lambda: time.monotonic() > back, three)
    bucket.open()
    wait_until(lambda: 10 in losses_by_step(folder), three)
    hosts[2].kill()
    codes_of_three = three.codes()

    two = Job(hosts[:2], store, config)
    wait_until(lambda: 11 in losses_by_step(folder, again=True), two)
    bucket.close()
    yield Story(folder, three, codes_of_three, two, two.codes())
    bucket.open()


def test_a_store_that_comes_back_was_waited_for(story: Story) -> None:
    assert max(scalars(story.folder, "data/retries").values()) > 0
    assert max(losses_by_step(story.folder)) >= 10


def test_a_lost_host_ends_all_and_is_told_once(story: Story) -> None:
    assert 0 not in story.codes_of_three
    printed_text = story.three.printed_text()
    assert printed_text.count("timbre: error:") == 1, printed_text
    assert "lost another rank: no answer for 60 s" in printed_text


def test_two_hosts_go_on_as_if_nothing_had_happened(
    story: Story, bucket: Bucket, tmp_path: Path
) -> None:
    """The curves are those of one rank that nothing happens to."""
    assert story.two.printed_text().count("resuming at step 9 of") == 1
    write_config(tmp_path, bucket.local_url, *OVERRIDES)
    train(configs.load(TrainConfig, tmp_path / "config.yaml", []))
    for name in ("g/loss", "d/loss", "g/grad_norm"):
        expected = scalars(tmp_path, name)
        values = scalars(story.folder, name)
        assert len(values) >= 5
        for step, value in values.items():
            assert value == pytest.approx(expected[step], rel=TOLERANCE), (name, step)
    expected = scalars(tmp_path, "g/loss")
    assert len(expected) == STEPS
    before, after = losses_by_step(story.folder), losses_by_step(story.folder, again=True)
    assert max(before) < max(after) < STEPS and min(after) == 10
    for step, loss in [*before.items(), *after.items()]:
        assert loss == pytest.approx(expected[step], rel=TOLERANCE), step


def test_a_store_that_stays_away_ends_all_with_one_message_and_the_checkpoint_stays(
    story: Story,
) -> None:
    assert 0 not in story.codes_of_two
    printed_text = story.two.printed_text()
    assert printed_text.count("timbre: error:") == 1, printed_text
    assert "timbre: error: s3://bucket/shards/train/shard-" in printed_text
    url = checkpoints.latest(f"{story.folder}/run")
    assert url is not None and checkpoint.load(url)["gan"]["step"] >= 9


def test_a_host_that_never_comes_is_told_in_time(
    network: list[Host], bucket: Bucket, tmp_path: Path
) -> None:
    """The launchers tell it: no rank is started before all of them are there."""
    *hosts, store = network
    config = write_config(tmp_path, bucket.url, *OVERRIDES)
    three = ["--num_machines", "3", "--num_processes", "3"]
    job = Job(hosts[:2], store, config, *three, "--rdzv_conf", "timeout=3")
    assert job.codes() == [1, 1]
    assert "waiting for clients. 2/3 clients joined." in job.printed_text()
    assert not (tmp_path / "run").exists()
