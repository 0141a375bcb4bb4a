"""Several ranks on this machine, by gloo: by torchrun, or without it where it is not what is tested."""

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
    """Run ``python WORDS`` on so many ranks by torchrun; return how it ended."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}")
    return _start(*torchrun, *words)


def run_ranks(ranks: int, module: str, *words: str) -> None:
    """Run a module on so many ranks; they must end well."""
    process = _start("-m", "tests.train.distributed.forked_ranks", str(ranks), module, *words)
    assert process.returncode == 0, process.stderr[-3000:]


def _start(*words: str) -> "subprocess.CompletedProcess[str]":
    # Threads split sums differently: one each, so that ranks can agree to the last bit.
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for _ in range(ATTEMPTS):
        process = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if GLOO_EXIT not in process.stderr:
            break
    return process
