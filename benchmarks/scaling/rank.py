"""One rank of the scaling benchmark: steps by turns under several settings, timed, and its traffic counted.

Run as `python -m benchmarks.scaling.rank JOB`, with torchrun's variables set, in a network namespace of
its own: all that crosses its cable is counted by the kernel. JOB is a JSON file, as `Job` has it.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

from tests.train.distributed.hosts import INTERFACE
from timbre import config as configs
from timbre.stream import PairBatch
from timbre.train.config import TrainConfig
from timbre.train.interruption import Interruption
from timbre.train.loop import train_step
from timbre.train.run import Run

HOOKS = {
    "fp32": default_hooks.allreduce_hook,
    "bf16": default_hooks.bf16_compress_hook,
    "fp16": default_hooks.fp16_compress_hook,
}


class Setting(NamedTuple):
    """How gradients travel; ``wrapper`` is what DistributedDataParallel is given, ``rate`` tc's limit."""

    name: str
    gradients: str = "fp32"
    wrapper: dict[str, Any] = {}  # noqa: RUF012 - never changed
    rate: str | None = None


class Job(NamedTuple):
    """What is measured; ``config`` is a training config's tree without ``run_dir``."""

    config: dict[str, Any]
    settings: list[Setting]
    rounds: int
    steps: int
    out: str


class GradientCounter:
    """What DistributedDataParallel hands over to be summed over the ranks."""

    def __init__(self, gradients: str) -> None:
        self.bytes, self.buckets = 0, 0
        self._hook: Any = HOOKS[gradients]
        self._bytes_each = 4 if gradients == "fp32" else 2

    def __call__(self, group: Any, bucket: Any) -> torch.futures.Future[torch.Tensor]:
        """Count a bucket, and sum it as the setting says."""
        self.bytes += bucket.buffer().numel() * self._bytes_each
        self.buckets += 1
        future: torch.futures.Future[torch.Tensor] = self._hook(group, bucket)
        return future


class Side:
    """A run under one setting, and what its measured rounds took."""

    def __init__(self, setting: Setting, job: Job) -> None:
        wrapper = DistributedDataParallelKwargs(**{"broadcast_buffers": False, **setting.wrapper})
        accelerator = Accelerator(mixed_precision="no", kwargs_handlers=[wrapper])
        tree = job.config | {"run_dir": f"{job.out}/{setting.name}"}
        config = configs.from_tree(TrainConfig, tree, "scaling")
        self.run = Run(config, accelerator, writes=False)
        self.run.gan.step = 10**5  # every term is in it
        self.setting, self.counter = setting, GradientCounter(setting.gradients)
        for network in (self.run.gan.generator, self.run.gan.discriminator):
            if isinstance(network, nn.parallel.DistributedDataParallel):
                network.register_comm_hook(None, lambda _, bucket: self.counter(None, bucket))
        self.rounds: list[dict[str, float]] = []

    def round(self, batches: Iterator[PairBatch], steps: int) -> None:
        """Take and measure so many steps."""
        limit(self.setting.rate)
        self.counter.bytes = self.counter.buckets = 0
        self.run.accelerator.wait_for_everyone()
        sent_before, received_before = sent_bytes(), received_bytes()
        start = time.perf_counter()
        for _ in range(steps):
            train_step(self.run, next(batches))
        seconds = time.perf_counter() - start
        self.run.accelerator.wait_for_everyone()
        totals = {
            "seconds": seconds,
            "sent_bytes": sent_bytes() - sent_before,
            "received_bytes": received_bytes() - received_before,
            "gradient_bytes": self.counter.bytes,
            "buckets": self.counter.buckets,
        }
        self.rounds.append({name: value / steps for name, value in totals.items()})

    def medians(self) -> dict[str, float]:
        """What a step took; the first round is not among them."""
        rounds = self.rounds[1:]
        return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def main(path: str) -> None:
    """Measure all settings by turns; write what this rank has seen."""
    tree = json.loads(Path(path).read_text())
    job = Job(**tree | {"settings": [Setting(**setting) for setting in tree["settings"]]})
    torch.set_num_threads(1)
    sides = [Side(setting, job) for setting in job.settings]
    batches = sides[0].run.data.batches(Interruption())
    for _ in range(1 + job.rounds):
        for side in sides:
            side.round(batches, job.steps)
    rank = sides[0].run.accelerator.process_index
    figures = {"settings": {side.setting.name: side.medians() for side in sides}}
    Path(job.out, f"rank{rank}.json").write_text(json.dumps(figures))
    sides[0].run.data.close()
    sides[0].run.accelerator.end_training()


def limit(rate: str | None) -> None:
    """Let this host send only so much, or all that it can."""
    shape = ["tbf", "rate", rate, "burst", "256kb", "latency", "2s"] if rate else ["pfifo"]
    command = ["tc", "qdisc", "replace", "dev", INTERFACE, "root", *shape]
    subprocess.run(command, check=True)


def sent_bytes() -> int:
    """What has left this host so far, headers included."""
    return _counter("tx_bytes")


def received_bytes() -> int:
    """What has come in."""
    return _counter("rx_bytes")


def _counter(name: str) -> int:
    return int(Path(f"/sys/class/net/{INTERFACE}/statistics", name).read_text())


if __name__ == "__main__":
    main(sys.argv[1])
