"""A stream that is killed a few times; `python -m benchmarks.kill_readers` does it 200 times."""

import sys

import pytest

from tests.benchmarks.test_benchmarks import figures, lines_of


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc and /dev/shm")
def test_what_is_killed_leaves_nothing_and_goes_on_exactly() -> None:
    lines = lines_of("kill_readers", "--times", "3")
    assert figures(lines, "noted")["all lives"] >= 3
    assert lines[-1]["ratios"] == {"faults_to_deaths": 0.0}
