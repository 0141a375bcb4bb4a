"""Validation and rates on real ranks: one number, every pair once."""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from tests.train.distributed.launch import run_ranks
from tests.train.distributed.report_run import GAINS, STEPS, figures, rates
from tests.train.runs import RESTARTS, config_of, placed_on
from timbre import config as configs
from timbre.audio import metrics
from timbre.models import checkpoint
from timbre.shards.whole_pairs import load_pair
from timbre.train import checkpoints
from timbre.train.config import TrainConfig
from timbre.train.run import Run, open_run

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _on_the_cpu() -> Iterator[None]:
    """Figures are compared to the last bit with those of ranks on the CPU."""
    with placed_on("cpu"):
        yield


class Ranks(NamedTuple):
    """The reports of both ranks of a run, and the config that the run goes on with."""

    reports: list[dict[str, Any]]
    config: TrainConfig


@pytest.fixture(scope="module")
def two_ranks(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    folder = tmp_path_factory.mktemp("ranks")
    config = config_of(urls, folder / "run", RESTARTS)
    (folder / "config.yaml").write_text(configs.dump(config))
    words = ("tests.train.distributed.report_run", f"{folder}/config.yaml", str(folder))
    run_ranks(2, *words)
    return Ranks([json.loads((folder / f"rank{n}.json").read_text()) for n in (0, 1)], config)


@pytest.fixture(scope="module")
def alone(urls: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One rank on the same pairs."""
    run = open_run(config_of(urls, tmp_path_factory.mktemp("alone")))
    yield run
    run.close()


def test_validation_is_one_number_on_every_rank_and_at_every_world_size(
    two_ranks: Ranks, alone: Run
) -> None:
    first, second = two_ranks.reports
    assert first["figures"] == second["figures"] == figures(alone, GAINS[1])
    assert {"val/score", "val/si_sdr", "val/harm/si_sdr", "val/loss/adversarial"} <= first[
        "figures"
    ].keys()
    assert all(math.isfinite(float.fromhex(value)) for value in first["figures"].values())


def test_the_best_checkpoint_is_that_of_the_best_validation_on_every_rank(
    two_ranks: Ranks,
) -> None:
    first, second = two_ranks.reports
    assert first["best"] == second["best"]
    (start, step), *later = first["best"]
    assert float.fromhex(start) == pytest.approx(1.0) and step == 0
    assert later == [[first["figures"]["val/score"], 1]] * 2  # the third is no better
    assert float.fromhex(later[0][0]) < 0.9
    _, tensors = checkpoint.read_generator(f"{two_ranks.config.run_dir}/{checkpoints.BEST}")
    assert tensors["gain"] == GAINS[1]


def test_the_rate_moves_once_a_step_on_two_ranks_and_goes_on_exactly_on_one(
    two_ranks: Ranks,
) -> None:
    first, second = two_ranks.reports
    assert first["rates"] == second["rates"] and len(first["rates"]) == STEPS
    run = open_run(two_ranks.config)
    assert run.gan.step == STEPS
    values = first["rates"] + rates(run, 3)
    run.close()
    assert {int(s["step"]) for s in run.gan.generator_descent.optimizer.state.values()} == {7}
    # A warm-up of one step at the peak, then PyTorch's own, stepped once a step.
    c = two_ranks.config.optimizer
    reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], c.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        reference, c.restart_steps, c.restart_factor, c.final_share * c.learning_rate
    )
    expected = [c.learning_rate]
    for _ in range(6):
        expected.append(reference.param_groups[0]["lr"])
        reference.step()
        schedule.step()
    assert values == pytest.approx(expected)
    assert values[2] < values[3]  # it did restart


def test_a_ragged_share_neither_drops_nor_repeats_a_pair_and_figures_are_weighted(
    two_ranks: Ranks, alone: Run
) -> None:
    pairs = list(alone.validation.pairs)
    assert len(pairs) == 7
    values, weights = [], []
    for place in pairs:
        pair = load_pair(place, CPU)
        sides = pair.degraded[:, 0], pair.clean[:, 0]
        values.append(float(metrics.log_spectral_distance(*sides, 0, 8000, pair.bandwidth_hz)))
        weights.append(place.entry.samples)
    value = float.fromhex(two_ranks.reports[0]["figures"]["val/degraded/lsd_0_8k"])
    assert value == pytest.approx(np.average(values, weights=weights), rel=1e-9)
    assert value != pytest.approx(np.mean(values), rel=0.1)


def test_validation_reports_gan_losses_and_teaches_the_discriminator_nothing(
    alone: Run,
) -> None:
    before = [parameter.clone() for parameter in alone.gan.discriminator.parameters()]
    values = alone.validation.measure(alone.gan, alone.reconstruction)
    for name in ("mel", "spectrum", "waveform", "adversarial", "feature_matching"):
        assert 0 < values[f"val/loss/{name}"] < math.inf, name
    assert {"val/si_sdr", "val/lsd_0_8k", "val/lsd_8_24k", "val/mel_distance"} <= values.keys()
    for parameter, was in zip(alone.gan.discriminator.parameters(), before, strict=True):
        assert parameter.equal(was) and parameter.grad is None
