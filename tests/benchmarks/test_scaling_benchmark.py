"""The benchmark of scaling runs end to end, its bytes are those of the networks, and its model adds up."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.scaling import model as scaling_model
from benchmarks.scaling.model import Fit, Reading
from tests.conftest import ROOT
from tests.train.distributed.hosts import Host, network

__all__ = ["network"]

# Of the tiny generator and the light discriminator, fp32.
GRADIENT_MB = 4 * (319_876 + 162_132) / 1e6


def test_what_is_sent_is_what_the_gradients_need(network: list[Host]) -> None:
    """16 bits take half of it. The fixture ``network`` skips where no namespaces are allowed."""
    pytest.importorskip("s3fs")
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--quick"],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    figures = {(line["case"], line["metric"]): line["value"] for line in lines if "metric" in line}
    megabytes = figures["2 ranks, fp32", "gradients handed over"]
    assert megabytes == pytest.approx(GRADIENT_MB, rel=1e-3)
    ratios = lines[-1]["ratios"]
    assert 1.0 <= ratios["sent/ideal_ring"] < 1.1
    assert ratios["sent/bf16_to_fp32"] == pytest.approx(0.5, abs=0.05)
    # A batch more or less may be on its way; and rclone's first answers to obstore are given up.
    assert 0.8 < ratios["received/read"] < 1.5
    assert figures["full, 512 GPUs", "GETs, FLAC"] > figures["full, 8 GPUs", "GETs, FLAC"]


def test_the_model_is_its_arithmetic() -> None:
    fit = Fit(1.0, 1.0, 0.0, Reading(1, 1, 1), Reading(1, 1, 1))
    step = scaling_model.Step(0.1, 0.01, 10, 1.0, 1000)
    assert scaling_model.line((32, 0.42), (128, 1.38)) == pytest.approx((0.1, 0.01))
    # A node alone sends nothing over its card; two send all gradients, many twice as much.
    node_bytes = [scaling_model.node_bytes(step, gpus, fit) for gpus in (8, 16, 8000)]
    assert node_bytes == pytest.approx([0, 4000, 7992])
    assert scaling_model.added_seconds(step, 16, 32_000, 4, fit) == pytest.approx(1.0)
    assert scaling_model.added_seconds(step, 16, 32_000, 2, fit) == pytest.approx(0.5)
    # 10 segments on one GPU take 0.2 s, one on each of ten 0.11 s.
    assert scaling_model.fixed_batch(step, 10) == pytest.approx(0.2 / 0.11)
    assert scaling_model.fixed_batch(step, 20) == 0
