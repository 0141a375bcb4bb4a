"""Seconds of the benchmark that runs ten minutes: every hop is counted, and memory stays."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.help.pulse import needs_pulse, pulse


@needs_pulse
def test_beside_a_busy_process_every_hop_is_played_and_memory_stays(tmp_path: Path) -> None:
    words = ["--seconds", "4", "--input", "pulse", "--output", "phones"]
    with pulse(tmp_path) as daemon:
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.live", *words],
            cwd=ROOT, env=daemon.environment, stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    figures = {line["metric"]: line["value"] for line in lines if "metric" in line}
    assert figures["hops"] > 50
    assert 0 <= figures["fades"] <= figures["late"] <= figures["hops"]
    assert figures["growth"] < 20
