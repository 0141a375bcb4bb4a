"""What every benchmark prints: JSON lines for figures, the machine they hold for, and ratios."""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from timbre.cores import granted_cores


def print_line(**fields: object) -> None:
    """One JSON object on a line of its own, at once."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def print_figure(bench: str, case: str, metric: str, value: float, unit: str) -> None:
    """One measured figure."""
    print_line(bench=bench, case=case, metric=metric, value=float(f"{value:.4g}"), unit=unit)


def print_machine(bench: str) -> None:
    """The processor, its cores, the accelerator, the versions and the commit."""
    cuda = torch.cuda.is_available()
    print_line(
        bench=bench,
        cpu=cpu_model(),
        cores=granted_cores(),
        gpu=torch.cuda.get_device_name() if cuda else None,
        python=platform.python_version(),
        torch=torch.__version__,
        commit=git_commit(),
    )


def print_ratios(bench: str, **ratios: float) -> None:
    """The last line of a benchmark: what it is about, in a few numbers."""
    print_line(bench=bench, ratios={name: float(f"{ratio:.3g}") for name, ratio in ratios.items()})


def cpu_model() -> str:
    """The processor's name as the kernel tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def git_commit() -> str:
    """The checked-out commit, with `+` behind it if files differ from it; else `unknown`."""
    root = Path(__file__).parent
    if shutil.which("git") is None:
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
