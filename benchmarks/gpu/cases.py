"""The cases of the GPU benchmark in the order of their worth, and the process that runs them.

`python -m benchmarks.gpu` starts it and reads what it prints: a line with `begun` before each case,
figures, and after it a line with `took`, `failed` or `skipped`.
"""

import argparse
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.gpu import denoise, graphs, speed, training
from benchmarks.gpu.setting import Setting, Tell
from benchmarks.report import print_figure, print_line, print_machine

BENCH = "gpu"
# A process with this exit code has left a device on which nothing runs any more.
DEVICE_LOST = 3


class Case(NamedTuple):
    """What is run, and the seconds that it is thought to take on a fast GPU."""

    name: str
    seconds: float
    run: Callable[[Setting, Tell], None]


def environment(setting: Setting, tell: Tell) -> None:
    """The GPU, its driver's version of CUDA, and what is on the machine."""
    tell("CPU cores", len(os.sched_getaffinity(0)), "")
    if setting.on_gpu:
        if shutil.which("nvidia-smi"):
            query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
            told = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
            print_line(bench=BENCH, case="environment", note=told)
        properties = torch.cuda.get_device_properties(setting.device)
        tell("memory", properties.total_memory / 2**30, "GiB")
        tell("multiprocessors", properties.multi_processor_count, "")
        tell("CUDA", float(torch.version.cuda or 0), "version that PyTorch was built for")
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        tell("cuDNN", float(cudnn or 0), "version")
        matrix = torch.randn(4096, 4096, device=setting.device, dtype=torch.bfloat16)
        for _ in range(3):
            torch.cuda.synchronize()
            begun = time.perf_counter()
            for _ in range(10):
                matrix @ matrix
            torch.cuda.synchronize()
            seconds_spent = time.perf_counter() - begun
        tell("bf16 matrix product", 10 * 2 * 4096**3 / seconds_spent / 1e12, "TFLOP/s")


def speed_case(preset: str, precision: str, batch: int, seconds: float, worth: float) -> Case:
    """A step by preset, precision and batch."""
    run = partial(
        graphs.step_speed, preset=preset, precision=precision, batch=batch, seconds=seconds
    )
    return Case(f"step/{preset}/{precision}/{batch}x{seconds:g}s", worth, run)


def data_case(audio_format: str, preset: str, workers: int, worth: float) -> Case:
    """Training while shards are read."""
    run = partial(
        training.data_wait,
        audio_format=audio_format,  # type: ignore[arg-type]
        preset=preset,
        workers=workers,
    )
    return Case(f"data/{audio_format}/{preset}/{workers}workers", worth, run)


def parts_case(preset: str, batch: int, seconds: float, worth: float) -> Case:
    """The parts of a step in bf16."""
    run = partial(speed.step_parts, preset=preset, precision="bf16", batch=batch, seconds=seconds)
    return Case(f"parts/{preset}/bf16/{batch}x{seconds:g}s", worth, run)


# The most important figures first: all of them up to `sync/loader` fit into ten minutes.
CASES = (
    Case("environment", 2, environment),
    Case("parity/graph", 60, graphs.parity),
    speed_case("light", "bf16", 32, 1.0, 10),
    speed_case("full", "bf16", 64, 2.0, 16),
    speed_case("light", "bf16", 64, 2.0, 12),
    speed_case("full", "bf16", 32, 1.0, 10),
    Case("dac/bf16", 12, partial(speed.against_dac, precision="bf16", batch=32, seconds=1.0)),
    data_case("flac", "full", 2, 14),
    data_case("wav", "light", 8, 14),
    Case("curves/graph", 110, graphs.curves),
    Case("train/whole", 20, training.whole_command),
    parts_case("full", 64, 2.0, 8),
    *(
        Case(f"sync/{n}/{p}", 6, partial(training.steps_without_a_sync, name=n, precision=p))
        for n, p in (("spectral", "bf16"), ("wave", "fp16"))
    ),
    Case("sync/loader", 3, training.loader_without_a_sync),
    Case("parity/outputs", 5, training.output_parity),
    Case("parity/precision", 14, training.trained_parity),
    Case("denoiser", 8, denoise.denoiser_by_batch),
    speed_case("light", "tf32", 32, 1.0, 10),
    speed_case("full", "tf32", 64, 2.0, 20),
    Case("compile/generator", 25, speed.compiled_generator),
    Case("prep", 40, denoise.prep_end_to_end),
)


def main() -> None:
    """Run the cases named, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cases", required=True)
    parser.add_argument("--until", type=float, required=True, help="by time.time()")
    parser.add_argument("--data", action="append", default=[])
    options = parser.parse_args()
    print_machine(BENCH)
    cases = {case.name: case for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            torch.device(options.device), options.quick, Path(folder), tuple(options.data)
        )
        for name in options.cases.split(","):
            expected = 0.0 if options.quick else cases[name].seconds
            left = options.until - time.time()
            if left < expected:
                reason = f"{left:.0f} s are left, it takes about {expected:.0f} s"
                print_line(bench=BENCH, case=name, skipped=reason)
                continue
            run_case(cases[name], setting)
            if setting.on_gpu and not device_answers():
                sys.exit(DEVICE_LOST)


def run_case(case: Case, setting: Setting) -> None:
    """Run a case; whatever happens to it is told, and the next one can go on."""
    print_line(bench=BENCH, case=case.name, begun=time.time())
    begun = time.perf_counter()

    def tell(metric: str, value: float, unit: str) -> None:
        print_figure(BENCH, case.name, metric, value, unit)

    try:
        case.run(setting, tell)
    except Exception:  # a case must not take the others with it
        print_line(bench=BENCH, case=case.name, failed=traceback.format_exc())
    else:
        print_line(bench=BENCH, case=case.name, took=round(time.perf_counter() - begun, 2))
    gc.collect()
    if setting.on_gpu:
        torch.cuda.set_sync_debug_mode("default")


def device_answers() -> bool:
    """Whether the GPU still works: an illegal access ends all that its process does with it."""
    try:
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    main()
