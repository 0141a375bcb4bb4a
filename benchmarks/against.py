"""How long a training step takes beside the same step of another commit.

Run as `python -m benchmarks.against COMMIT [--presets light full] [--rounds 7]`. The commit is checked out beside
this one; a process of each takes turns on the same batch, with this environment. What is printed are
medians over the rounds of the ratio within a round: above 1, this commit is faster.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.report import print_figure, print_machine, print_ratios
from tests.help.made_shards import make_shards

BENCH = "against"
ROOT = Path(__file__).parents[1]
BATCH, SECONDS = 2, 1.0
WARM_UP = 2
# What each side does, with the programs of its own commit: a step whenever a line comes in.
SIDE = """
import sys, time
from benchmarks.train_step import SIZES, open_adversarial_run
from timbre.train.loop import train_step

url, folder, preset, size = sys.argv[1:]
run = open_adversarial_run(url, folder, preset, SIZES[size], "fp32")
batch = next(run.batches())
for _ in sys.stdin:
    begun = time.perf_counter()
    train_step(run, batch)
    print("seconds", time.perf_counter() - begun, flush=True)
run.close()
"""


class Side:
    """A process that trains by the programs of one checkout."""

    def __init__(self, checkout: Path, url: str, folder: str, preset: str, size: str) -> None:
        command = [sys.executable, "-c", SIDE, url, folder, preset, size]
        environment = os.environ | {"PYTHONPATH": str(checkout)}
        self.process = subprocess.Popen(
            command, cwd=checkout, env=environment, text=True, stdin=-1, stdout=-1
        )

    def step(self) -> float:
        """Do a step; return its seconds."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        for line in self.process.stdout:  # a log may stand between
            if line.startswith("seconds "):
                return float(line.split()[1])
        sys.exit(f"a side ended with code {self.process.wait()}")

    def end(self) -> None:
        """Let it close its run."""
        self.process.communicate()


def check_out(commit: str, folder: Path) -> Path:
    """Write the files of a commit below a folder; return where."""
    folder.mkdir()
    git = ["git", "-C", str(ROOT), "archive", commit]
    archive = subprocess.run(git, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def main() -> None:
    """Take turns; print what each side's step takes, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="what this one is measured against")
    parser.add_argument("--presets", nargs="+", default=["light", "full"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="sizes that only show that it runs")
    options = parser.parse_args()
    print_machine(BENCH)
    size, seconds = ("quick", 0.1) if options.quick else ("cpu", SECONDS)
    ratios = {}
    with tempfile.TemporaryDirectory() as folder:
        other = check_out(options.commit, Path(folder, "checkout"))
        url = make_shards(Path(folder, "shards"), [4 * BATCH], [1], seconds=seconds)
        for preset in options.presets:
            sides = {
                name: Side(place, url, f"{folder}/{name}_{preset}", preset, size)
                for name, place in (("this", ROOT), ("other", other))
            }
            rounds = [
                {name: side.step() for name, side in sides.items()}
                for _ in range(WARM_UP + options.rounds)
            ][WARM_UP:]
            for name, side in sides.items():
                side.end()
                median = statistics.median(turn[name] for turn in rounds)
                print_figure(BENCH, f"{name}: {preset}", "step", 1e3 * median, "ms")
            ratios[preset] = statistics.median(turn["other"] / turn["this"] for turn in rounds)
    print_ratios(BENCH, **ratios)


if __name__ == "__main__":
    main()
