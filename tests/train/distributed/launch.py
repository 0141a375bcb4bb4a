"""Several ranks on this machine, by torchrun and gloo."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Once in dozens of runs a rank aborts like this while the interpreter exits, its work done and
# written. Only that is tried again; every figure is still checked.
GLOO_EXIT = "terminate called without an active exception"
ATTEMPTS = 3


def launch(ranks: int, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run ``python WORDS`` on so many ranks; return how it ended."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    # Threads split sums differently: one each, so that ranks can agree to the last bit.
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for _ in range(ATTEMPTS):
        process = subprocess.run(
            [*command, f"--nproc_per_node={ranks}", *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if GLOO_EXIT not in process.stderr:
            break
    return process


def torchrun(ranks: int, *words: str) -> None:
    """The same, and it must end well."""
    process = launch(ranks, *words)
    assert process.returncode == 0, process.stderr[-3000:]
