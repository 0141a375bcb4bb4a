"""No code that nothing uses: ruff's rules, and vulture."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def lint(*words: str, source: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    return subprocess.run(
        [*command, *words], input=source, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_lint_finds_no_unused_code_here() -> None:
    process = lint("--select=F,ARG", ".")
    assert process.returncode == 0, process.stdout


def vulture(*paths: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "vulture", *map(str, paths)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_no_definition_is_left_that_nothing_uses(tmp_path: Path) -> None:
    made_up = tmp_path / "made_up.py"
    made_up.write_text("def load(): ...\n\n\nval_sampler = load()\n")
    assert "unused variable 'val_sampler'" in vulture(made_up).stdout
    everything = vulture("timbre", "shard_tools", "benchmarks", "tests")
    assert everything.returncode == 0, everything.stdout


@pytest.mark.parametrize(
    ("made_up", "rule"),
    [
        ("def load(x: int) -> int:\n    val_sampler = x + 1\n    return x\n", "F841"),
        ("import torch\n", "F401"),
        ("def load(x: int, val_sampler: int) -> int:\n    return x\n", "ARG001"),
    ],
)
def test_the_projects_own_lint_refuses_an_unused_name(made_up: str, rule: str) -> None:
    process = lint("--stdin-filename=timbre/made_up.py", "-", source=made_up)
    assert process.returncode == 1 and rule in process.stdout, process.stdout
