"""A step beside another commit's: here beside the same one."""

import json
import subprocess
import sys

import pytest

from benchmarks.against import ROOT

GIT = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]


@pytest.mark.skipif(subprocess.run(GIT, capture_output=True).returncode != 0, reason="no commits")
def test_both_sides_take_turns_and_a_ratio_comes_of_it() -> None:
    words = ["HEAD", "--quick", "--rounds", "1", "--presets", "light"]
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.against", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["case"] for line in lines[1:-1]] == ["this: light", "other: light"]
    assert all(line["value"] > 0 for line in lines[1:-1])
    assert lines[-1]["ratios"]["light"] > 0
