"""What several ranks cost on this machine, and what that says of 8, 64 and 512 GPUs.

Run as root, for every rank gets a network namespace with a cable of its own, whose bytes the kernel
counts: `python -m benchmarks.scaling [--quick]`. Three parts: steps and traffic by number of ranks; ways
for gradients to travel, over a fast and a slow cable; what reading from a store brings over the cable.
docs/scaling.md explains the model that follows from them. Ranks beyond the machine's cores share them:
their times tell nothing, their bytes do.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import print_figure, print_machine, print_ratios
from benchmarks.scaling import model as scaling_model
from benchmarks.scaling.loader import SEGMENT
from benchmarks.scaling.rank import Job, Setting
from benchmarks.stream import data as stream_data
from benchmarks.stream.case import PAIR_SAMPLES
from tests.help.made_shards import make_shards
from tests.help.object_store import environment, serve_command
from tests.train.distributed.hosts import INTERFACE, Host, connected_hosts
from timbre.audio import SAMPLE_RATE
from timbre.cores import granted_cores

BENCH = "scaling"
PATIENCE_SECONDS = 900
STORE = "9000"


class Size(NamedTuple):
    """How much is measured; ``tiny`` networks have the tiny generator and the light discriminator."""

    generator: str
    preset: str
    ranks: tuple[int, ...]
    rounds: int
    steps: int
    pairs: int
    batches: int


FULL = Size("small", "light", (1, 2, 4), rounds=5, steps=1, pairs=512, batches=24)
QUICK = Size("tiny", "light", (), rounds=1, steps=1, pairs=128, batches=8)
# A slow cable, so that travelling is a good part of a step on a CPU.
RATE = "200mbit"
SECONDS = 0.25


def main() -> None:
    """Measure, print figures, and what the model says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="sizes that only show that it runs")
    size = QUICK if parser.parse_args().quick else FULL
    print_machine(BENCH)
    with ExitStack() as stack:
        try:
            hosts = stack.enter_context(connected_hosts(max((3, *size.ranks))))
        except OSError as error:
            sys.exit(f"benchmarks.scaling: {error}")
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wires = [by_ranks(hosts[:count], size, folder / f"{count}") for count in size.ranks]
        travelling = ways(hosts[:2], size, folder / "ways")
        wires.append(sent_to_ideal(2, travelling["fp32"]))
        reading = {
            audio_format: measure_reading(hosts, size, audio_format, folder / audio_format)
            for audio_format in ("flac", "wav")
        }
    wire = statistics.median(wire for wire in wires if wire)
    share = exposed_share(travelling)
    fit = scaling_model.Fit(
        wire, share, travelling["fp32"]["buckets"], reading["flac"], reading["wav"]
    )
    scaling_model.print_needs(BENCH, fit)
    print_ratios(
        BENCH,
        **{
            "sent/ideal_ring": wire,
            "exposed/travelling": share,
            "sent/bf16_to_fp32": travelling["bf16"]["sent_bytes"]
            / travelling["fp32"]["sent_bytes"],
            "received/read": reading["flac"].cable_bytes / reading["flac"].file_bytes,
        },
    )


def by_ranks(hosts: list[Host], size: Size, folder: Path) -> float:
    """Print what a step takes with a rank on each host; return the same as :func:`sent_to_ideal`."""
    step = train(hosts, size, [Setting("fp32")], folder)[0]["settings"]["fp32"]
    print_step(f"{len(hosts)} ranks, {granted_cores()} cores", step)
    return sent_to_ideal(len(hosts), step)


def sent_to_ideal(ranks: int, step: dict[str, float]) -> float:
    """What a host has sent for each byte that a ring has to: 2 (n - 1) / n of the gradients; 0 if alone."""
    return (
        step["sent_bytes"] / (2 * (ranks - 1) / ranks * step["gradient_bytes"])
        if ranks > 1
        else 0.0
    )


def ways(hosts: list[Host], size: Size, folder: Path) -> dict[str, dict[str, float]]:
    """Print, and return by name, what a step takes for each way that gradients can travel."""
    settings = [
        Setting("fp32"),
        Setting("bf16", "bf16"),
        Setting("fp16", "fp16"),
        Setting("bucket 1 MB", wrapper={"bucket_cap_mb": 1}),
        Setting("bucket 100 MB", wrapper={"bucket_cap_mb": 100}),
        Setting("gradient as bucket view", wrapper={"gradient_as_bucket_view": True}),
        Setting("static graph", wrapper={"static_graph": True}),
        Setting("buffers broadcast", wrapper={"broadcast_buffers": True}),
    ]
    if size is QUICK:
        settings = settings[:2]
    slow = [each._replace(name=f"{each.name}, {RATE}", rate=RATE) for each in settings]
    steps: dict[str, dict[str, float]] = train(hosts, size, settings + slow, folder)[0]["settings"]
    for name, step in steps.items():
        print_step(f"2 ranks, {name}", step)
    return steps


def print_step(case: str, step: dict[str, float]) -> None:
    """Print what a step took on the first rank."""
    print_figure(BENCH, case, "step", 1e3 * step["seconds"], "ms")
    print_figure(BENCH, case, "gradients handed over", step["gradient_bytes"] / 1e6, "MB a step")
    print_figure(BENCH, case, "buckets", step["buckets"], "a step")
    print_figure(BENCH, case, "sent by a host", step["sent_bytes"] / 1e6, "MB a step")


def exposed_share(steps: dict[str, dict[str, float]]) -> float:
    """How much of the time that gradients travel is added to a step, over the slow cable."""
    slow = steps[f"fp32, {RATE}"]
    travelling = 8 * slow["sent_bytes"] / (1e6 * float(RATE.removesuffix("mbit")))
    return min(max(slow["seconds"] - steps["fp32"]["seconds"], 0.0) / travelling, 1.0)


def train(
    hosts: list[Host], size: Size, settings: list[Setting], folder: Path
) -> list[dict[str, Any]]:
    """Return what every rank, one on each host, tells of its steps."""
    count = len(hosts)
    url = make_shards(folder / "shards", [8 * count], [1], seconds=SECONDS)
    config = {
        "data": [{"manifest": url}],
        "steps": 10**6,
        "global_batch": count,
        "segment_seconds": SECONDS,
        "precision": "fp32",
        "generator": {"size": size.generator},
        "discriminator": {"preset": size.preset},
        "adversarial": {"discriminator_steps": 0, "ramp_steps": 0},
        "validation": {"perceptual_pairs": 0, "harm_pairs": 0, "shown_pairs": 0},
        "workers": 1,
        "log_gradients_every": 10**9,
    }
    job = Job(config, settings, size.rounds, size.steps, str(folder))
    file = folder / "job.json"
    file.write_text(json.dumps(job._asdict() | {"settings": [each._asdict() for each in settings]}))
    ranks = [
        host.start(
            [sys.executable, "-m", "benchmarks.scaling.rank", str(file)],
            rank_environment(hosts, rank),
            folder / "output",
        )
        for rank, host in enumerate(hosts)
    ]
    wait(ranks, folder / "output")
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(count)]


def measure_reading(
    hosts: list[Host], size: Size, audio_format: str, folder: Path
) -> scaling_model.Reading:
    """Print, and return for a pair, what each reading host gets from a store on another."""
    *readers, store = hosts[: 2 if size is QUICK else 3]
    clips = stream_data.draw_clips(None, quick=True)
    stream_data.write_ours(f"{folder}/served/bucket", clips, size.pairs, audio_format)  # type: ignore[arg-type]
    address = f"{store.address}:{STORE}"
    output = folder / "output"
    store.start(serve_command(folder / "served", address, fresh=False), {}, folder / "store")
    leads = {**environment(f"http://{address}"), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "benchmarks.scaling.loader", "s3://bucket/manifest.json"]
    processes = [
        host.start(
            [*words, f"{rank}", f"{len(readers)}", f"{size.batches}", f"{folder}/{rank}.json"],
            leads,
            output,
        )
        for rank, host in enumerate(readers)
    ]
    wait(processes, output)
    store.kill()
    figures = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(len(readers))]
    pair = {name: statistics.mean(each[name] for each in figures) for name in figures[0]}
    reading = scaling_model.Reading(pair["cable_bytes"], pair["file_bytes"], pair["requests"])
    case = f"{audio_format}, {SEGMENT / SAMPLE_RATE:g} of {PAIR_SAMPLES / SAMPLE_RATE:g} s"
    print_figure(BENCH, case, "read", reading.file_bytes / 1e3, "kB a pair")
    print_figure(BENCH, case, "received by a host", reading.cable_bytes / 1e3, "kB a pair")
    print_figure(BENCH, case, "GETs", reading.requests, "a pair")
    return reading


def rank_environment(hosts: list[Host], rank: int) -> dict[str, str]:
    """What torchrun would set."""
    places = {"RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": len(hosts), "LOCAL_WORLD_SIZE": 1}
    return {
        **{name: str(value) for name, value in places.items()},
        "MASTER_ADDR": hosts[0].address,
        "MASTER_PORT": "29500",
        "GLOO_SOCKET_IFNAME": INTERFACE,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }


def wait(processes: list["subprocess.Popen[bytes]"], output: Path) -> None:
    """Wait until all have ended well; else end, with what they said."""
    for process in processes:
        if process.wait(PATIENCE_SECONDS) != 0:
            sys.exit(f"benchmarks.scaling: a rank failed:\n{output.read_text()[-3000:]}")


if __name__ == "__main__":
    main()
