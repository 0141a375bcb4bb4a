"""What many GPUs need of the network and the store: measured bytes, measured steps, and arithmetic.

docs/scaling.md has the formulas. What is assumed is a constant here, and says so.
"""

from typing import NamedTuple

from benchmarks.report import print_figure

GPUS = (8, 64, 512)
GPUS_OF_A_NODE = 8
# Of a node's network card, in bits a second.
CARDS = {"10 Gbit/s": 10e9, "25 Gbit/s": 25e9, "100 Gbit/s": 100e9}
# Assumed: what S3 promises for one prefix (AWS documentation), and a ring's hop between two nodes.
STORE_GETS = 5500
HOP_SECONDS = 30e-6


class Reading(NamedTuple):
    """A pair's share of what a reading host gets: bytes on the cable, bytes asked for, GETs."""

    cable_bytes: float
    file_bytes: float
    requests: float


class Fit(NamedTuple):
    """What was measured here.

    ``wire`` is bytes sent for each byte that a ring has to send; ``exposed_share`` the share of the time on
    the cable that a step becomes longer by; ``buckets`` how many sums a step has.
    """

    wire: float
    exposed_share: float
    buckets: float
    flac: Reading
    wav: Reading


class Step(NamedTuple):
    """A step on one H200, in bf16: a constant, and so much for each second of audio on the GPU."""

    constant_seconds: float
    each_second: float
    batch: int
    segment_seconds: float
    parameters: int

    def seconds(self, batch: float) -> float:
        """How long a step with so many segments on a GPU takes."""
        return self.constant_seconds + self.each_second * batch * self.segment_seconds


def line(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """Return constant and slope of the line through two points ``(audio seconds, seconds)``."""
    slope = (second[1] - first[1]) / (second[0] - first[0])
    return first[1] - slope * first[0], slope


# Steps of benchmarks/results/2026-11-26-gpu.jsonl; the generator is `small`.
STEPS = {
    "full": Step(*line((32, 0.1817), (128, 0.5158)), 64, 2.0, 4_041_604 + 3_991_240),
    "light": Step(*line((32, 0.1628), (128, 0.3191)), 64, 2.0, 4_041_604 + 162_132),
}


def print_needs(bench: str, fit: Fit) -> None:
    """Print what 8, 64 and 512 GPUs need, by preset, each with a batch of its own of 64 x 2 s."""
    for preset, step in STEPS.items():
        for gpus in GPUS:
            case = f"{preset}, {gpus} GPUs"
            seconds = step.seconds(step.batch)
            pairs = gpus * step.batch / seconds
            megabytes = node_bytes(step, gpus, fit)
            print_figure(bench, case, "a node sends", megabytes / 1e6, "MB a step")
            for card, rate in CARDS.items():
                share = seconds / (seconds + added_seconds(step, gpus, rate, 4, fit))
                print_figure(bench, case, f"of the speed of {gpus} alone, {card}", share, "")
            for name, reading in [("FLAC", fit.flac), ("WAV", fit.wav)]:
                rate = pairs * reading.cable_bytes
                print_figure(bench, case, f"the store sends, {name}", rate / 1e9, "GB/s")
                print_figure(bench, case, f"GETs, {name}", pairs * reading.requests, "/s")
            print_figure(bench, case, "speed of a fixed batch of 64", fixed_batch(step, gpus), "")
        limit = STORE_GETS * step.seconds(step.batch) / (step.batch * fit.flac.requests)
        print_figure(bench, preset, f"GPUs that {STORE_GETS} GETs/s feed", limit, "")


def node_bytes(step: Step, gpus: int, fit: Fit, bytes_each: int = 4) -> float:
    """What a node sends in a step: its GPUs sum among themselves first; a single one sends nothing."""
    nodes = gpus // GPUS_OF_A_NODE
    return fit.wire * 2 * (nodes - 1) / nodes * bytes_each * step.parameters


def added_seconds(step: Step, gpus: int, rate: float, bytes_each: int, fit: Fit) -> float:
    """By how much a step becomes longer: bytes on the card, and hops of every bucket round the ring."""
    nodes = gpus // GPUS_OF_A_NODE
    travelling = 8 * node_bytes(step, gpus, fit, bytes_each) / rate
    return fit.exposed_share * travelling + fit.buckets * 2 * (nodes - 1) * HOP_SECONDS


def fixed_batch(step: Step, gpus: int) -> float:
    """How many times as fast as one GPU these are on one and the same global batch; 0 if it is too small."""
    own = step.batch / gpus
    return step.seconds(step.batch) / step.seconds(own) if own >= 1 else 0.0
