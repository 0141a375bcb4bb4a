"""Augmentation: what it does in the signal, and that its draws depend on the position alone."""

import numpy as np
import pytest
import torch

from timbre import augment
from timbre.audio import SAMPLE_RATE
from timbre.augment import AugmentConfig, Draw

SAMPLES = 24000


def tone(hz: float) -> torch.Tensor:
    return torch.sin(
        2 * torch.pi * hz * torch.arange(SAMPLES, dtype=torch.float64) / SAMPLE_RATE
    ).float()


def test_draws_depend_on_seed_epoch_and_position_alone() -> None:
    config = AugmentConfig()
    whole = augment.draw(config, 3, 1, torch.arange(40, 52))
    part = augment.draw(config, 3, 1, torch.arange(46, 52))
    assert part.gain.equal(whole.gain[6:]) and part.low_pass_hz.equal(whole.low_pass_hz[6:])
    for other in [
        (4, 1, torch.arange(40, 52)),
        (3, 2, torch.arange(40, 52)),
        (3, 1, torch.arange(41, 53)),
    ]:
        assert not augment.draw(config, *other).gain.equal(whole.gain)


def test_draws_follow_the_config() -> None:
    drawn = augment.draw(AugmentConfig(low_pass_share=0.3), 0, 0, torch.arange(4000))
    assert drawn.gain.min() >= 0.8 and drawn.gain.max() <= 1.0  # and so no polarity is flipped
    cut = drawn.low_pass_hz[drawn.low_pass_hz < SAMPLE_RATE / 2]
    assert abs(len(cut) / 4000 - 0.3) < 0.03
    assert cut.min() >= 4000 and cut.max() <= 20000
    flipped = augment.draw(AugmentConfig(flip_polarity=True), 0, 0, torch.arange(4000)).gain < 0
    assert abs(flipped.float().mean() - 0.5) < 0.03


def test_both_sides_get_one_gain() -> None:
    degraded, clean = torch.randn(2, 2, 1, SAMPLES).unbind()
    parameters = Draw(torch.tensor([0.8, -0.9]), torch.full((2,), SAMPLE_RATE / 2))
    changed = augment.apply(parameters, degraded, clean, torch.full((2,), 20000.0))
    gain = parameters.gain[:, None, None]
    torch.testing.assert_close(changed[0], degraded * gain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(changed[1], clean * gain, atol=1e-5, rtol=1e-5)
    assert changed[2].tolist() == [20000.0, 20000.0]


@pytest.mark.parametrize("cut_hz", [4000.0, 10000.0, 16000.0])
def test_the_low_pass_keeps_what_is_below_in_phase_and_removes_what_is_above(cut_hz: float) -> None:
    below, above = tone(cut_hz - 600), tone(cut_hz + 100)
    waves = (below + above)[None, None]
    parameters = Draw(torch.ones(1), torch.tensor([cut_hz]))
    degraded, clean, bandwidth = augment.apply(parameters, waves, waves, torch.tensor([22000.0]))
    middle = slice(2400, -2400)
    assert (degraded[0, 0, middle] - below[middle]).abs().max() < 0.01
    assert degraded.equal(clean)
    assert bandwidth.item() == cut_hz


def test_the_bandwidth_never_grows() -> None:
    waves = torch.randn(1, 1, SAMPLES)
    parameters = Draw(torch.ones(1), torch.tensor([15000.0]))
    assert augment.apply(parameters, waves, waves, torch.tensor([9000.0]))[2].item() == 9000.0


def test_crops_and_augmentation_draw_from_different_streams() -> None:
    crop = np.random.default_rng([3, 1, 40]).random()
    assert augment.draw(AugmentConfig(), 3, 1, torch.tensor([40])).gain.item() != pytest.approx(
        0.8 + 0.2 * crop
    )
