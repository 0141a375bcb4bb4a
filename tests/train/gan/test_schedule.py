"""Schedules are pure functions of the optimizer step."""

import math

import pytest
import torch

from timbre.errors import ConfigError
from timbre.train.gan.schedule import (
    AdversarialConfig,
    adversarial_share,
    cosine_share,
    resolve_start,
    warm_restarts_share,
)


def test_the_rate_rises_linearly_then_falls_along_half_a_cosine() -> None:
    share = [cosine_share(step, 10, 110, 0.1) for step in range(111)]
    assert share[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert share[10] == 1.0
    assert share[60] == pytest.approx(0.1 + 0.9 * 0.5)
    assert share[85] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(0.75 * math.pi)))
    assert share[110] == pytest.approx(0.1)
    assert cosine_share(500, 10, 110, 0.1) == pytest.approx(0.1)
    assert cosine_share(0, 0, 1, 0.1) == 1.0


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_warm_restarts_are_those_of_pytorch(factor: int) -> None:
    peak, final_share, warmup = 2e-3, 0.05, 5
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], peak)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, T_0=7, T_mult=factor, eta_min=peak * final_share
    )
    share = [warm_restarts_share(step, warmup, 7, factor, final_share) for step in range(105)]
    assert share[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    for step in range(5, 105):
        assert peak * share[step] == pytest.approx(optimizer.param_groups[0]["lr"]), step
        optimizer.step()
        reference.step()


def test_the_discriminator_learns_alone_before_its_weight_ramps() -> None:
    config = AdversarialConfig(discriminator_steps=5, ramp_steps=4)
    share = [adversarial_share(step, 100, config) for step in range(112)]
    assert share[:105] == [0.0] * 105
    assert share[105:] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0]


def test_the_adversarial_start_is_five_epochs_in_steps_or_later() -> None:
    assert resolve_start(AdversarialConfig(), 40) == 200
    assert resolve_start(AdversarialConfig(start_step=200), 40) == 200
    assert resolve_start(AdversarialConfig(start_step=999), 40) == 999
    with pytest.raises(ConfigError, match="start_step 199: expected at least 200"):
        resolve_start(AdversarialConfig(start_step=199), 40)


def test_the_start_counts_optimizer_steps_and_none_before_five_epochs_is_accepted() -> None:
    assert resolve_start(AdversarialConfig(), 40) == 200
    assert resolve_start(AdversarialConfig(start_step=201), 40) == 201
    with pytest.raises(ConfigError, match="start_step 199: expected at least 200"):
        resolve_start(AdversarialConfig(start_step=199), 40)
    shares = [adversarial_share(step, 200, AdversarialConfig(ramp_steps=4)) for step in range(1210)]
    assert shares[1199:1205] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0] and not any(shares[:1200])
