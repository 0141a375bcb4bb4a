"""How fast DeepFilterNet3 runs: ours in batches against the official package clip by clip.

Run as `python -m benchmarks.denoise [--quick]`. Both sides get one thread and 4-second clips, take
turns in the same process, and report the median over the rounds in seconds of audio per second of
computing. All of it runs twice: as the machine is, and with a malloc that keeps large blocks, which
some people set for such work (`MALLOC_…` has to be there when a process starts, so each run is a
process of its own). On a machine with a GPU ours is measured there too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.report import print_figure, print_line, print_machine, print_ratios
from tests.help.denoise_inputs import noisy_voice, si_sdr_db
from tests.help.official_deepfilternet import INSTALLED, Official
from timbre.denoise import DeepFilterNet3

BENCH = "denoise"
SECONDS = 4
BATCHES = (1, 8, 16)
GPU_BATCHES = (16, 64, 256)
KEEP_LARGE_BLOCKS = {
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}


def main() -> None:
    """Run the cases in two processes and print their figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9")
    parser.add_argument("--measure", metavar="CASE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    rounds = 3 if options.quick else 9
    if options.measure:
        measure(options.measure, rounds)
        return
    print_machine(BENCH)
    if not INSTALLED:
        print_line(bench=BENCH, note="deepfilternet is not installed: no official side, no ratios")
    ratios: dict[str, float] = {}
    for case, environment in (("plain", {}), ("malloc", KEEP_LARGE_BLOCKS)):
        speeds = run_measure(case, environment, options.quick)
        official = speeds.get(f"{case}/official")
        for name, speed in speeds.items():
            print_figure(BENCH, name, "speed", speed, "x real time on one core")
            if official and name != f"{case}/official":
                ratios[name] = speed / official
    if torch.cuda.is_available():
        measure_gpu(rounds)
    print_ratios(BENCH, **ratios)


def run_measure(case: str, environment: dict[str, str], quick: bool) -> dict[str, float]:
    """Speeds by name from a fresh process with the environment added."""
    command = [sys.executable, "-m", "benchmarks.denoise", "--measure", case]
    result = subprocess.run(
        [*command, "--quick"] if quick else command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    speeds: dict[str, float] = {}
    for line in result.stdout.splitlines():
        fields = json.loads(line)
        if "speeds" in fields:
            speeds.update(fields["speeds"])
        else:
            print_line(**fields)
    return speeds


def measure(case: str, rounds: int) -> None:
    """Print the speeds of all sides, and how near ours comes to the official output."""
    torch.set_num_threads(1)
    clips = noisy_clips(max(BATCHES))
    with tempfile.TemporaryDirectory() as folder:
        ours = DeepFilterNet3.load(cache_dir=folder)
    sides: dict[str, tuple[int, Callable[[], Tensor]]] = {
        f"{case}/ours_batch_{size}": (size, lambda size=size: ours(clips[:size]))  # type: ignore[misc]
        for size in BATCHES
    }
    if INSTALLED:
        official = Official()
        agreement = min(si_sdr_db(ours(clip[None])[0], official.enhance(clip)) for clip in clips)
        print_figure(BENCH, case, "worst SI-SDR against official", agreement, "dB")
        turn = iter(range(10**9))
        sides[f"{case}/official"] = (
            1,
            lambda: official.enhance(clips[next(turn) % len(clips)]),
        )
    print_line(speeds=speeds_in_turns(sides, rounds))


def speeds_in_turns(
    sides: dict[str, tuple[int, Callable[[], Tensor]]], rounds: int
) -> dict[str, float]:
    """Median speed of each side, x real time; the sides take turns, after one unmeasured round."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, (clips, run) in sides.items():
            start = time.perf_counter()
            run()
            if turn:
                speeds[name].append(clips * SECONDS / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in speeds.items()}


def measure_gpu(rounds: int) -> None:
    """Print the speed on the GPU."""
    with tempfile.TemporaryDirectory() as folder:
        model = DeepFilterNet3.load(cache_dir=folder).cuda()
    clips = noisy_clips(max(GPU_BATCHES)).cuda()

    def run(size: int) -> Tensor:
        denoised: Tensor = model(clips[:size])
        torch.cuda.synchronize()
        return denoised

    sides: dict[str, tuple[int, Callable[[], Tensor]]] = {
        f"gpu/ours_batch_{size}": (size, lambda size=size: run(size))  # type: ignore[misc]
        for size in GPU_BATCHES
    }
    for name, speed in speeds_in_turns(sides, rounds).items():
        print_figure(BENCH, name, "speed", speed, "x real time")


def noisy_clips(count: int) -> Tensor:
    """(count, SECONDS · 48000) of voices in noise; at most 16 different ones."""
    different = [noisy_voice(SECONDS * 48_000, seed) for seed in range(min(count, 16))]
    return torch.stack(different).repeat(-(-count // len(different)), 1)[:count]


if __name__ == "__main__":
    main()
