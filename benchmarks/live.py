"""`timbre live` beside a process that eats a core: late hops, what the guard did, and memory.

Run as `python -m benchmarks.live --seconds 600 [--input pulse --output pulse]`. The devices are real to
PortAudio; on a machine without a sound card a sound server with null sinks will do (tests/help/pulse.py).
"""

import argparse
import math
import subprocess
import sys

import psutil
import torch

from benchmarks.report import print_figure, print_machine, print_ratios
from timbre.live.devices import Layout, find
from timbre.live.session import Look, Places, Session
from timbre.restore.live import LiveRestorer

BENCH = "live"
EATER = "while True: pass"


def main() -> None:
    """Run a signal for a while and print what became of its hops."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--input")
    parser.add_argument("--output")
    parser.add_argument("--slack", type=int, default=2)
    parser.add_argument("--eaters", type=int, default=1, help="processes that eat a core each")
    options = parser.parse_args()
    print_machine(BENCH)
    torch.set_num_threads(1)
    places = Places(find(options.input, "--input"), find(options.output, "--output"), None)
    session = Session(places, Layout(48_000, 1, 480), LiveRestorer.load(), options.slack)
    memory: list[int] = []
    process = psutil.Process()
    eaters = [subprocess.Popen([sys.executable, "-c", EATER]) for _ in range(options.eaters)]
    try:
        look = session.run(options.seconds, lambda _: memory.append(process.memory_info().rss))
    finally:
        for eater in eaters:
            eater.kill()
            eater.wait()
    case = f"{options.eaters} busy processes, slack {options.slack}"
    for metric, value, unit in figures(look, memory):
        print_figure(BENCH, case, metric, value, unit)
    print_ratios(BENCH, late_to_all=look.counts.late / max(look.counts.hops, 1))


def figures(look: Look, memory: list[int]) -> list[tuple[str, float, str]]:
    """Return what to print: metric, value, unit. Memory grows from the first tenth to the end."""
    counts = look.counts
    begun = max(memory[: math.ceil(len(memory) / 10)])
    return [
        ("hops", counts.hops, ""),
        ("late", counts.late, ""),
        ("fades", counts.fades, ""),
        ("jumps", counts.jumps, ""),
        ("stops", counts.stops, ""),
        ("underruns", look.underruns, ""),
        ("hop", look.p50_ms, "ms"),
        ("hop p99", look.p99_ms, "ms"),
        ("latency", look.latency_ms, "ms"),
        ("growth", (max(memory) - begun) / 1e6, "MB"),
    ]


if __name__ == "__main__":
    main()
