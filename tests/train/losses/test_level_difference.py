"""The two terms of level differences: speech that comes out too quiet, sound where there was none."""

import math

import pytest
import torch
from torch import Tensor

from tests.train.losses.test_reconstruction import ALL, FULL, noise, tone
from timbre.train.losses.reconstruction import LossConfig, ReconstructionLoss

DIFFERENCES = ("over_attenuation", "leak")
EVERY_TERM = LossConfig(perceptual=1.0, over_attenuation=1.0, leak=1.0)


def level_differences(restored: Tensor, clean: Tensor, bandwidth_hz: float) -> dict[str, float]:
    """The two terms of one pair ``(samples,)``, bin by bin in double precision."""
    size = clean.double().square().mean().sqrt()
    window = torch.hann_window(1024, dtype=torch.float64)
    window = window / window.norm()
    sides = []
    for wave in (restored, clean):
        longer = torch.nn.functional.pad(wave.double() / size, (512, 512))
        frames = longer.unfold(0, 1024, 256) * window
        sides.append(torch.fft.rfft(frames).abs()[:, : int(bandwidth_hz / 46.875) + 1])
    top = sides[1].max().item()
    floor = top * 10 ** (-80 / 20)
    losses, leaks = [], []
    for r, c in zip(sides[0].flatten().tolist(), sides[1].flatten().tolist(), strict=True):
        d = 20 * math.log10((r + floor) / (c + floor))
        if c > top * 10 ** (-60 / 20):
            losses.append(min(max(-d - 3, 0), 30) / 10)
        else:
            leaks.append(min(max(d - 3, 0), 40) / 10)
    return {"over_attenuation": sum(losses) / len(losses), "leak": sum(leaks) / max(len(leaks), 1)}


def test_level_differences_are_those_counted_bin_by_bin() -> None:
    loss = ReconstructionLoss(EVERY_TERM)
    clean = torch.stack([tone(1000.0)[0] + 0.01 * tone(5000.0)[0], 0.1 * noise(1, 24000)])
    restored = 0.3 * clean + 0.001 * noise(2, 1, 24000, seed=1)
    terms = loss(restored, clean, FULL.expand(2))
    expected = [level_differences(r[0], c[0], 24000) for r, c in zip(restored, clean, strict=True)]
    for name in DIFFERENCES:
        mean = (expected[0][name] + expected[1][name]) / 2
        assert terms[name].item() == pytest.approx(mean, rel=1e-3), name
        assert mean > 0.05


@pytest.mark.parametrize(
    ("gain_db", "loss_db"), [(-2.9, 0), (-13, 1), (-23, 2), (-80, 3), (2.9, 0), (30, 0)]
)
def test_a_gain_counts_beyond_3_db_up_to_30_and_only_where_it_is_a_loss(
    gain_db: float, loss_db: float
) -> None:
    clean = 0.1 * noise(1, 1, 48000)
    terms = ReconstructionLoss(EVERY_TERM)(10 ** (gain_db / 20) * clean, clean, FULL)
    assert terms["over_attenuation"].item() == pytest.approx(loss_db, abs=0.03)
    assert terms["leak"].item() < 1e-3


def test_level_differences_are_computed_only_where_a_weight_asks_for_them() -> None:
    clean = 0.1 * noise(1, 1, 9600)
    assert set(ReconstructionLoss()(clean, clean, FULL)) == set(ALL)
    for name in DIFFERENCES:
        terms = ReconstructionLoss(LossConfig(**{name: 0.5}))(clean, clean, FULL)
        assert set(terms) == {*ALL, *DIFFERENCES}
