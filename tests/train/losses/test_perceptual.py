"""The perceptual loss against the package that implements P.862, and at its edges."""

import numpy as np
import pytest
import torch
from torch import Tensor

from timbre.audio import SAMPLE_RATE, metrics
from timbre.audio.synthetic.voice import voice
from timbre.train.losses.perceptual import PerceptualLoss
from timbre.train.losses.reconstruction import LossConfig, ReconstructionLoss


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def speech(seed: int, seconds: float = 4.0) -> Tensor:
    """``(1, samples)``."""
    return torch.from_numpy(voice(seconds, np.random.default_rng(seed)))[None]


def at_snr(clean: Tensor, snr_db: float, seed: int) -> Tensor:
    level = clean.square().mean().sqrt() * 10 ** (-snr_db / 20)
    return clean + level * noise(*clean.shape, seed=seed)


def mos(loss: Tensor) -> Tensor:
    """P.862.2's mapping of a raw score."""
    return 0.999 + 4 / (1 + torch.exp(3.8224 - 1.3669 * (4.5 - loss)))


@pytest.fixture(scope="module")
def loss() -> PerceptualLoss:
    return PerceptualLoss()


def test_it_is_pesq(loss: PerceptualLoss) -> None:
    """The tolerance covers the standard's search for delays and its own filters."""
    pytest.importorskip("pesq")
    ours, official = [], []
    for seed in range(3):
        clean = speech(seed)
        gap = torch.ones_like(clean)
        gap[:, SAMPLE_RATE : SAMPLE_RATE * 3 // 2] = 0.1
        sides = [at_snr(clean, snr_db, seed) for snr_db in (0, 10, 20, 30, 40)]
        sides += [clean * gap, 0.5 * clean, 3 * at_snr(clean, 25, seed)]
        ours += [float(mos(loss(side, clean))) for side in sides]
        official += [float(metrics.pesq_wideband(side[0], clean[0])) for side in sides]
    difference = np.array(ours) - np.array(official)
    assert np.ptp(official) > 2.5
    assert np.corrcoef(ours, official)[0, 1] > 0.99
    assert np.abs(difference).mean() < 0.1 and np.abs(difference).max() < 0.4


def test_the_clean_side_itself_loses_nothing_at_any_gain(loss: PerceptualLoss) -> None:
    clean = speech(1)
    for gain in (0.01, 1.0, 5.0):
        assert loss(gain * clean, clean).item() < 0.01
    assert float(mos(loss(clean, clean))) == pytest.approx(4.64, abs=0.01)


def test_a_pair_is_measured_alone(loss: PerceptualLoss) -> None:
    clean = torch.cat([speech(1), 0.02 * speech(2)])
    restored = torch.cat([at_snr(clean[:1], 5, 0), at_snr(clean[1:], 20, 1)])
    alone = [loss(restored[n : n + 1], clean[n : n + 1]) for n in (0, 1)]
    torch.testing.assert_close(loss(restored, clean), torch.cat(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("restored_level", [0.0, 1e-7, 0.1])
@pytest.mark.parametrize("clean_level", [0.0, 1e-7, 0.1])
@pytest.mark.parametrize("samples", [1, 100, 4800])
def test_silence_and_short_ends_give_finite_gradients(
    loss: PerceptualLoss, restored_level: float, clean_level: float, samples: int
) -> None:
    restored = (restored_level * noise(1, samples)).requires_grad_()
    value = loss(restored, clean_level * noise(1, samples, seed=1))
    value.sum().backward()
    assert restored.grad is not None and restored.grad.isfinite().all() and value.isfinite().all()
    if clean_level == 0:
        assert value.item() == 0 and not restored.grad.any()


def test_going_down_its_gradient_raises_the_mos(loss: PerceptualLoss) -> None:
    clean = speech(3, 2.0)
    restored = at_snr(clean, 5, 0).requires_grad_()
    before = loss(restored, clean).item()
    optimizer = torch.optim.Adam([restored], lr=2e-3)
    for _ in range(10):
        optimizer.zero_grad()
        loss(restored, clean).sum().backward()
        optimizer.step()
    assert loss(restored, clean).item() < before - 0.3


def test_it_is_a_term_only_where_it_is_asked_for() -> None:
    clean = speech(1, 1.0)[:, None]
    restored = clean + 0.01 * noise(*clean.shape)
    full = torch.tensor([24000.0])
    plain = ReconstructionLoss()(restored, clean, full)
    with_term = ReconstructionLoss(LossConfig(perceptual=1.0))(restored, clean, full)
    assert with_term.keys() - plain.keys() == {"perceptual"}
    assert float(with_term["perceptual"]) == pytest.approx(
        float(PerceptualLoss()(restored[:, 0], clean[:, 0])), rel=1e-3
    )
