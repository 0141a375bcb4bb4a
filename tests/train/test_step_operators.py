"""How many operators a step calls: exact figures, so that a bound for each part can be held."""

from pathlib import Path

import pytest
import torch

from benchmarks.operators import OperatorCount, Operators, count_step
from benchmarks.train_step import Size, open_adversarial_run
from tests.help.made_shards import make_shards
from timbre.train.loop import train_step
from timbre.train.parts import PARTS

# Of a small generator's adversarial step: all operators, fp32 and bf16.
TOTALS = {"light": (2500, 3000), "full": (2700, 3200)}
# The same by part, of the preset that has most.
BOUNDS = {
    "augmentation": (140, 140),
    "generator": (690, 820),
    "reconstruction": (355, 355),
    "discriminator": (830, 885),
    "adversarial": (470, 515),
    "optimizers": (45, 45),
    "watching": (40, 40),
    "rest": (10, 10),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [1], [1], seconds=0.1)


def count_operators(
    url: str, run_dir: Path, preset: str, precision: str, order: str = "joint"
) -> OperatorCount:
    size = Size("small", 1, 0.1, 1, 0)
    adversarial = {"discriminator_steps": 0, "ramp_steps": 0, "order": order}
    run = open_adversarial_run(
        url, str(run_dir), preset, size, precision, workers=0, adversarial=adversarial
    )
    batch = next(run.batches())
    run.watch(train_step(run, batch))  # makes moments and sums
    count = count_step(run, batch)
    run.close()
    return count


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("preset", ["light", "full"])
def test_a_step_calls_no_more_operators_than_it_must(
    url: str, tmp_path: Path, preset: str, precision: str
) -> None:
    parts = count_operators(url, tmp_path, preset, precision).parts()
    assert parts.keys() == {*PARTS, "rest"} == BOUNDS.keys()
    place = precision == "bf16"
    assert sum(operators.all for operators in parts.values()) <= TOTALS[preset][place]
    for name, operators in parts.items():
        assert 0 < operators.all <= BOUNDS[name][place], name
        assert operators.kernels > 0


def test_judging_again_after_the_discriminators_step_costs_a_pass(url: str, tmp_path: Path) -> None:
    joint, alternating = (
        count_operators(url, tmp_path / order, "light", "fp32", order=order).parts()["adversarial"]
        for order in ("joint", "alternating")
    )
    assert 206 <= alternating.kernels - joint.kernels < 300


def test_views_are_counted_apart() -> None:

    with OperatorCount() as count:
        torch.zeros(3).view(1, 3).square()
    assert count.parts() == {"rest": Operators(kernels=2, views=1)}
