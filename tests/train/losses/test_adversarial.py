"""The losses of generator and discriminator against their plain formulation."""

import pytest
import torch
from torch import Tensor

from tests.help import plain_gan as plain
from tests.help.plain_gan import PlainDiscriminators, PlainJudgement
from timbre.models.discriminators import (
    PRESETS,
    DiscriminatorConfig,
    Discriminators,
    Judgement,
    build_discriminator,
)
from timbre.train.losses.adversarial import discriminator_loss, generator_losses


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def judgement(real: Tensor, fake: Tensor) -> Judgement:
    return Judgement(torch.cat([real, fake]).reshape(2 * len(real), 1, -1, 1), [], [])


def test_the_discriminators_loss_has_its_closed_form() -> None:
    half = judgement(torch.full((2, 5), 0.8), torch.full((2, 5), 0.3))
    assert discriminator_loss([half])[0].item() == pytest.approx(0.04 + 0.09)
    # A discriminator with more logits does not count more.
    wide = judgement(torch.full((2, 500), 1.0), torch.full((2, 500), 0.0))
    assert discriminator_loss([wide])[0].item() == 0
    assert discriminator_loss([half, wide])[0].item() == pytest.approx(0.13 / 2)


def test_accuracy_is_the_share_of_logits_on_the_right_side_of_a_half() -> None:
    four = judgement(torch.tensor([[0.9, 0.6, 0.4, 2.0]]), torch.tensor([[0.6, 0.7, 0.4, -0.9]]))
    one = judgement(torch.tensor([[1.0]]), torch.tensor([[0.0]]))
    half_way = judgement(torch.tensor([[0.5]]), torch.tensor([[0.5]]))
    for judgements, right in (([four], 5 / 8), ([four, one], 13 / 16), ([half_way], 0.0)):
        assert discriminator_loss(judgements)[1].item() == pytest.approx(right)


@pytest.fixture(scope="module", params=["light", "full"])
def both(request: pytest.FixtureRequest) -> tuple[Discriminators, PlainDiscriminators]:
    """Ours and the plain ones with the same weights."""
    torch.manual_seed(0)
    reference = PlainDiscriminators(PRESETS[request.param])
    ours = build_discriminator(DiscriminatorConfig(request.param))
    ours.load_state_dict(reference.state_dict())
    return ours, reference


def judge_both(
    reference: PlainDiscriminators, clean: Tensor, restored: Tensor
) -> tuple[list[PlainJudgement], list[PlainJudgement]]:
    return reference(clean), reference(restored)


def test_the_discriminators_loss_and_gradients_are_the_plain_ones(
    both: tuple[Discriminators, PlainDiscriminators],
) -> None:
    ours, reference = both
    clean, restored = noise(2, 1, 6000), noise(2, 1, 6000, seed=1)
    real, fake = judge_both(reference, clean, restored)
    loss, accuracy = discriminator_loss(ours.judge(torch.cat([clean, restored])))
    expected = plain.discriminator_loss(real, fake)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(accuracy, plain.discriminator_accuracy(real, fake))
    slopes = torch.autograd.grad(loss, [*ours.parameters()])
    own = ours.separate(dict(zip(dict(ours.named_parameters()), slopes, strict=True)))
    for name, parameter in reference.named_parameters():
        (slope,) = torch.autograd.grad(expected, parameter, retain_graph=True)
        assert (own[name] - slope).norm() < 1e-4 * slope.norm() + 1e-7, name


@pytest.mark.parametrize("term", [0, 1])
def test_the_generators_terms_and_gradients_are_the_plain_ones(
    both: tuple[Discriminators, PlainDiscriminators], term: int
) -> None:
    ours, reference = both
    clean = noise(2, 1, 6000)
    restored = (clean + 0.3 * noise(2, 1, 6000, seed=1)).requires_grad_()
    planes = ours.planes(torch.cat([clean, restored]))
    judgements = ours([plane.detach() for plane in planes])
    real, fake = judge_both(reference, clean, restored)
    value = generator_losses(ours, judgements, planes)[term]
    if term == 0:
        expected = plain.adversarial_loss(fake)
    else:
        expected = plain.feature_matching_loss(real, fake)
    torch.testing.assert_close(value, expected)
    mine, slope = (torch.autograd.grad(v, restored)[0] for v in (value, expected))
    assert (mine - slope).norm() < 1e-4 * slope.norm()
    assert all(p.grad is None for p in ours.parameters())


def test_in_bf16_they_are_the_plain_ones_within_its_precision(
    both: tuple[Discriminators, PlainDiscriminators],
) -> None:
    ours, reference = both
    clean = noise(1, 1, 6000)
    restored = (clean + 0.3 * noise(1, 1, 6000, seed=1)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        planes = ours.planes(torch.cat([clean, restored]))
        judgements = ours([plane.detach() for plane in planes])
        real, fake = judge_both(reference, clean, restored)
    expected = plain.adversarial_loss(fake), plain.feature_matching_loss(real, fake)
    for value, reference_value in zip(
        generator_losses(ours, judgements, planes), expected, strict=True
    ):
        assert value.item() == pytest.approx(reference_value.item(), rel=0.02)
        mine, slope = (
            torch.autograd.grad(v, restored, retain_graph=True)[0] for v in (value, reference_value)
        )
        assert torch.nn.functional.cosine_similarity(mine.flatten(), slope.flatten(), dim=0) > 0.98


def test_feature_matching_is_relative_to_the_size_of_the_real_features() -> None:
    """A discriminator cannot make it small by shrinking its activations; dead ones say nothing."""
    features, change = noise(2, 4, 5, 10), 0.1 * noise(2, 4, 5, 10, seed=1)
    expected = (change.abs().mean() / features.abs().mean()).item()
    ours = build_discriminator(DiscriminatorConfig("light"))
    logits = torch.zeros(4, 1, 1, 1)
    for scale in (1e-6, 1.0, 1e6):
        sides = scale * torch.cat([features, features + change])
        _, matching = generator_losses(ours, [Judgement(logits, [sides], [])], [])
        assert matching.item() == pytest.approx(expected, rel=1e-4)
    dead = Judgement(logits, [torch.zeros(4, 1, 2, 3)], [])
    assert generator_losses(ours, [dead], [])[1].item() == 0
