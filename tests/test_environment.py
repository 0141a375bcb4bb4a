"""Before torch loads, a process gets its share of the cores, and threads that wait passively."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from timbre.cores import granted_cores

SETTLE = "import os, sys; from timbre.environment import settle_threads; settle_threads(); "
# Written at once: lines of two ranks would mix.
SHOW = SETTLE + "os.write(1, '<{OMP_NUM_THREADS} {OMP_WAIT_POLICY}>'.format(**os.environ).encode())"
TORCH = SETTLE + "import torch; os.write(1, f'<{torch.get_num_threads()}>'.encode())"
OURS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY")
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1",
                   "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"],
}  # fmt: skip


def output_of(*words: str, **variables: str) -> list[str]:
    """Return what each process prints. It starts with these variables and no others of ours."""
    bare = {name: value for name, value in os.environ.items() if name not in OURS}
    process = subprocess.run(
        [sys.executable, *words],
        env={**bare, "ACCELERATE_USE_CPU": "true", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return re.findall("<(.*?)>", process.stdout)


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "show.py").write_text(SHOW)
    return str(tmp_path / "show.py")


def test_torch_takes_the_threads_that_are_granted() -> None:
    assert output_of("-c", TORCH) == [str(granted_cores())]
    assert output_of("-c", TORCH, OMP_NUM_THREADS="1") == ["1"]
    assert output_of("-c", TORCH, MKL_NUM_THREADS="1") == ["1"]


def test_threads_wait_passively_unless_the_user_says_otherwise() -> None:
    assert output_of("-c", SHOW) == [f"{granted_cores()} PASSIVE"]
    assert output_of("-c", SHOW, OMP_WAIT_POLICY="ACTIVE") == [f"{granted_cores()} ACTIVE"]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ranks_of_a_node_share_its_cores(launcher: str, script: str) -> None:
    words = ["-m", *LAUNCHERS[launcher], script]
    assert output_of(*words) == [f"{max(granted_cores() // 2, 1)} PASSIVE"] * 2
    # What the user says goes before what the launcher would say.
    assert output_of(*words, OMP_NUM_THREADS="7") == ["7 PASSIVE"] * 2


def test_one_rank_of_accelerate_takes_all_cores(script: str) -> None:
    words = ["-m", "accelerate.commands.launch", "--num_processes=1"]
    # The launcher would say 1 thread, or as many as the machine has cores.
    assert output_of(*words, script) == [f"{granted_cores()} PASSIVE"]
    assert output_of(*words, "--num_cpu_threads_per_process=7", script) == ["7 PASSIVE"]
