"""A rank dies: its launcher starts the others again, and the run goes on from its last checkpoint."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from tests.help.made_shards import make_shards
from tests.train.distributed.launch import ROOT
from tests.train.distributed.test_ranks import write_config

RANKS = 3
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch"]
ONE_NODE = [
    *ACCELERATE, f"--config_file={ROOT}/launch/accelerate/one_node.yaml", "--num_processes=3",
    "--main_process_port=0", "--max_restarts=2", "--rdzv_backend=c10d",
]  # fmt: skip
ENVIRONMENT = {
    "ACCELERATE_USE_CPU": "true",
    "OMP_NUM_THREADS": "1",
    # Else torch gives a start the addresses of the dead.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    # torchrun's own, where `accelerate launch` has no option: any free port.
    "PET_RDZV_ENDPOINT": "127.0.0.1:0",
}
# A node that says nothing for three seconds is lost; those that are left wait as long for others.
PATIENCE = "last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3"
DEADLINE_SECONDS = 240


@pytest.fixture
def run_config(tmp_path: Path) -> str:
    """A run that ends only when a test ends it."""
    url = make_shards(tmp_path / "shards", [6, 6], [2])
    overrides = ["steps=100000", "validate_every=100000", "save_every=2", "keep_checkpoints=2"]
    return write_config(tmp_path, url, *overrides, "segment_seconds=0.1", "workers=0")


def start(words: Sequence[str], config: str, output: Path) -> psutil.Popen:
    with output.open("ab") as file:
        return psutil.Popen(
            [*words, "-m", "timbre.train", config],
            cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip


def wait_until(has_happened: Callable[[], object], output: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not has_happened():
        assert time.monotonic() < deadline, output.read_text()[-4000:]
        time.sleep(0.05)  # files tell nobody that they have grown


def log_of(folder: Path, rank: int) -> str:
    log = folder / f"run/logs/rank-{rank:05d}.log"
    return log.read_text() if log.exists() else ""


def starts(folder: Path, rank: int) -> list[tuple[int, int]]:
    """The number of ranks at each start of a rank, and its process."""
    rows = re.findall(rf"rank {rank} of (\d+) on .*, process (\d+),", log_of(folder, rank))
    return [(int(ranks), int(process)) for ranks, process in rows]


def last_step(folder: Path) -> int:
    return max((int(path.stem[5:]) for path in folder.glob("run/checkpoints/*.pt")), default=0)


def go_on(folder: Path, ranks: int, output: Path) -> None:
    """Wait until the run has gone on from a checkpoint, with so many ranks, to another; end it."""

    def has_gone_on() -> bool:
        _, *later = log_of(folder, 0).split("resuming at step ")
        step = int(later[-1].split()[0]) if later else None
        is_new = starts(folder, 0)[-1:] and starts(folder, 0)[-1][0] == ranks
        return bool(is_new) and step is not None and step >= 2 and last_step(folder) > step

    wait_until(has_gone_on, output)
    os.kill(starts(folder, 0)[-1][1], signal.SIGUSR1)


def test_all_ranks_of_a_node_go_on_after_one_was_killed(run_config: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    job = start(ONE_NODE, run_config, output)
    wait_until(lambda: last_step(tmp_path), output)
    psutil.Process(starts(tmp_path, 2)[0][1]).kill()
    go_on(tmp_path, RANKS, output)
    assert job.wait(DEADLINE_SECONDS) == 0, output.read_text()[-4000:]


def test_the_nodes_that_are_left_go_on_after_one_was_lost(run_config: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*TORCHRUN, "--nnodes=2:3", "--nproc_per_node=1", "--max-restarts=5"]
    words += ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=job"]
    nodes = [
        start([*words, f"--rdzv-conf=is_host={not number},{PATIENCE}"], run_config, output)
        for number in range(RANKS)
    ]
    wait_until(
        lambda: starts(tmp_path, 2)[-1:] and log_of(tmp_path, 2).rstrip().endswith("GiB"), output
    )
    wait_until(lambda: last_step(tmp_path), output)
    lost = nodes.pop()
    for process in [*lost.children(recursive=True), lost]:  # as a machine goes, with all on it
        process.kill()
    lost.wait()
    go_on(tmp_path, RANKS - 1, output)
    codes = [node.wait(DEADLINE_SECONDS) for node in nodes]
    assert codes == [0, 0], output.read_text()[-4000:]
