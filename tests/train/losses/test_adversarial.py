"""What generator and discriminator make of judgements."""

import pytest
import torch
from torch import Tensor

from timbre.models.discriminators import DiscriminatorConfig, Judgement, build_discriminator
from timbre.train.losses.adversarial import (
    adversarial_loss,
    discriminator_accuracy,
    discriminator_loss,
    feature_matching_loss,
    halves,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def judgement(logits: Tensor, *features: Tensor) -> Judgement:
    return Judgement(logits, list(features))


def test_least_squares_losses_have_their_closed_forms() -> None:
    real, fake = judgement(torch.full((2, 1, 5), 0.8)), judgement(torch.full((2, 1, 9), 0.3))
    assert discriminator_loss([real], [fake]).item() == pytest.approx(0.04 + 0.09)
    assert adversarial_loss([fake]).item() == pytest.approx(0.49)
    # A discriminator with more logits, or more discriminators, does not count more.
    wide = judgement(torch.full((2, 1, 500), 1.0))
    assert adversarial_loss([fake, wide]).item() == pytest.approx(0.49 / 2)
    perfect = discriminator_loss([judgement(torch.ones(3))], [judgement(torch.zeros(3))])
    assert perfect.item() == 0


def test_feature_matching_is_relative_to_the_size_of_the_real_features() -> None:
    features, change = noise(2, 4, 50), 0.1 * noise(2, 4, 50, seed=1)
    logits = torch.zeros(1)
    expected = (change.abs().mean() / features.abs().mean()).item()
    for scale in (1e-6, 1.0, 1e6):
        real = [judgement(logits, scale * features)]
        fake = [judgement(logits, scale * (features + change))]
        assert feature_matching_loss(real, fake).item() == pytest.approx(expected, rel=1e-4)
    dead = [judgement(logits, torch.zeros(2, 3))]
    assert feature_matching_loss(dead, dead).item() == 0


def test_feature_matching_sends_no_gradient_to_the_real_side() -> None:
    real, fake = noise(2, 3).requires_grad_(), noise(2, 3, seed=1).requires_grad_()
    logits = torch.zeros(1)
    feature_matching_loss([judgement(logits, real)], [judgement(logits, fake)]).backward()
    assert real.grad is None
    assert fake.grad is not None and (fake.grad != 0).all()


def test_the_halves_of_one_pass_are_what_two_passes_give() -> None:
    torch.manual_seed(0)
    network = build_discriminator(DiscriminatorConfig(preset="light")).eval()
    real, fake = torch.randn(2, 2, 1, 9600).unbind()
    both = halves(network(torch.cat([real, fake])))
    for side, alone in zip(both, (network(real), network(fake)), strict=True):
        for one, other in zip(side, alone, strict=True):
            torch.testing.assert_close(one.logits, other.logits, atol=1e-4, rtol=1e-3)
            for a, b in zip(one.features, other.features, strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_accuracy_is_the_share_of_logits_on_the_right_side_of_a_half() -> None:
    real = [Judgement(torch.tensor([0.9, 0.6, 0.4, 2.0]), []), Judgement(torch.tensor([1.0]), [])]
    fake = [Judgement(torch.tensor([0.6, 0.7, 0.4, 0.9]), []), Judgement(torch.tensor([0.0]), [])]
    assert float(discriminator_accuracy(real, fake)) == pytest.approx((0.5 + 1) / 2)
