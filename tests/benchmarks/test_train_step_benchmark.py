"""The benchmark of a training step runs end to end, and its baseline does what DAC's trainer does."""

import json
import os
import subprocess
import sys

import torch

from benchmarks.dac_structure import DacTrainer
from tests.conftest import ROOT
from tests.help.plain_gan import PlainDiscriminators
from timbre.models.discriminators import PRESETS
from timbre.models.generator import GeneratorConfig, build_generator


def test_every_part_and_both_ratios_are_told() -> None:
    command = [sys.executable, "-m", "benchmarks.train_step", "--device", "cpu", "--quick"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    parts = {line["case"] for line in lines if line.get("metric") == "time"}
    for part in ("data wait", "generator", "reconstruction losses", "period 11", "spectrum 542"):
        assert {f"full: {part}", f"light: {part}"} <= parts
    speeds = {line["case"]: line["value"] for line in lines if line.get("metric") == "speed"}
    assert speeds.keys() == {
        "ours_full",
        "ours_light",
        "dac_structure_full",
        "dac_structure_dac",
    }
    counts = {line["case"] for line in lines if line.get("metric") == "operators"}
    assert {"light: whole step", "full: whole step", "light: generator"} <= counts
    ratios = lines[-1]["ratios"]
    assert ratios.keys() == {
        "dac_structure_to_ours/same_discriminators",
        "dac_structure_to_ours/light",
    }
    expected = speeds["ours_light"] / speeds["dac_structure_dac"]
    assert abs(ratios["dac_structure_to_ours/light"] / expected - 1) < 0.02  # a single round


def test_the_baseline_trains_both_networks_in_four_passes() -> None:
    torch.manual_seed(0)
    discriminator = PlainDiscriminators(PRESETS["light"])
    passes: list[tuple[int, bool]] = []
    discriminator.register_forward_pre_hook(
        lambda module, inputs: passes.append(
            (len(inputs[0]), next(module.parameters()).requires_grad)
        )
    )
    trainer = DacTrainer(
        build_generator(GeneratorConfig(size="tiny")), discriminator, torch.device("cpu"), "fp32"
    )
    clean = 0.1 * torch.randn(2, 1, 4800)
    degraded = torch.nn.functional.avg_pool1d(clean, 3, 1, 1)
    before = [p.detach().clone() for p in discriminator.parameters()]
    first, *_, last = (
        float(trainer.step(degraded, clean, torch.full((2,), 24000.0))) for _ in range(5)
    )
    assert last < first
    assert passes == [(2, True)] * 20
    assert not any(a.equal(b) for a, b in zip(before, discriminator.parameters(), strict=True))
