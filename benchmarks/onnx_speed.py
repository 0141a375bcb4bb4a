"""How fast onnxruntime runs an exported file; for `benchmarks.restore`, and for a file by hand.

Run as `python -m benchmarks.onnx_speed FILE.onnx ...`: one JSON line a figure, of one thread.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.report import print_figure, print_machine
from timbre.audio import HOP, SAMPLE_RATE
from timbre.audio.synthetic.voice import voice

BENCH = "onnx_speed"
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
ROUNDS = 3
NOISE = 0.01


class Speed(NamedTuple):
    """Figures of a file.

    megabytes: its size.
    load_seconds: from its bytes to a session.
    times_real_time: seconds of sound a second of computing, the best of three rounds.
    hop_ms: of a stream, mean and 99th percentile of a hop's time; else None.
    """

    megabytes: float
    load_seconds: float
    times_real_time: float
    hop_ms: tuple[float, float] | None


def measure(data: bytes, seconds: float = 10.0, threads: int = 1) -> Speed:
    """Return how fast a file written by `timbre export` runs on so many seconds of sound."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    start = time.perf_counter()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    load_seconds = time.perf_counter() - start
    rng = np.random.default_rng(0)
    wave = voice(seconds, rng)
    wave = wave + NOISE * rng.standard_normal(len(wave), dtype=np.float32)
    wave = wave[: len(wave) // HOP * HOP]
    by_hop = any(entry.name == "started" for entry in session.get_inputs())
    run = _hop_times if by_hop else _whole_time
    times = min((run(session, wave) for _ in range(ROUNDS)), key=np.sum)
    hop_ms = (1e3 * float(times.mean()), 1e3 * float(np.quantile(times, 0.99)))
    real_time = len(wave) / SAMPLE_RATE / float(times.sum())
    return Speed(len(data) / 1e6, load_seconds, real_time, hop_ms if by_hop else None)


def _whole_time(
    session: onnxruntime.InferenceSession, wave: NDArray[np.float32]
) -> NDArray[np.float64]:
    feed = {entry.name: wave[None, None] for entry in session.get_inputs()}
    start = time.perf_counter()
    session.run(["restored"], feed)
    return np.array([time.perf_counter() - start])


def _hop_times(
    session: onnxruntime.InferenceSession, wave: NDArray[np.float32]
) -> NDArray[np.float64]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    signals = [entry.name for entry in inputs if entry.name in ("noisy", "degraded")]
    state = {
        entry.name: np.zeros([1, *entry.shape[1:]], TYPES[entry.type])
        for entry in inputs
        if entry.name not in signals
    }
    times = []
    for hop in wave.reshape(-1, 1, 1, HOP):
        feed = dict.fromkeys(signals, hop) | state
        start = time.perf_counter()
        results = session.run(None, feed)
        times.append(time.perf_counter() - start)
        state = dict(zip(state, results[len(outputs) - len(state) :], strict=True))
    return np.array(times)


def main() -> None:
    """Print the figures of the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    print_machine(BENCH)
    for path in parser.parse_args().files:
        speed = measure(path.read_bytes())
        print_figure(BENCH, path.name, "size", speed.megabytes, "MB")
        print_figure(BENCH, path.name, "load", speed.load_seconds, "s")
        print_figure(BENCH, path.name, "speed", speed.times_real_time, "x real time on one core")
        if speed.hop_ms is not None:
            for name, milliseconds in zip(("mean", "p99"), speed.hop_ms, strict=True):
                print_figure(BENCH, path.name, f"hop_{name}", milliseconds, "ms")


if __name__ == "__main__":
    main()
