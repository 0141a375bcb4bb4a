"""What generator and discriminator make of the judgements of clean and restored, in float32."""

import torch
from torch import Tensor

from timbre.models.discriminators import Judgement


def discriminator_loss(real: list[Judgement], fake: list[Judgement]) -> Tensor:
    """Return the least-squares loss (Mao et al. 2017): 0 when real is 1 and fake is 0.

    The mean over discriminators, so that it means the same under every preset; undecided logits of
    1/2 give 0.5.
    """
    losses = [
        (1 - r.logits.float()).square().mean() + f.logits.float().square().mean()
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_loss(fake: list[Judgement]) -> Tensor:
    """Return the generator's least-squares loss: 0 when every fake is taken for real."""
    return torch.stack([(1 - f.logits.float()).square().mean() for f in fake]).mean()


def feature_matching_loss(real: list[Judgement], fake: list[Judgement]) -> Tensor:
    """Return the L1 distance between activations, each layer relative to the real ones' mean size.

    No discriminator can make it small by shrinking its activations. The real side gets no gradient.
    """
    losses = []
    for r, f in zip(real, fake, strict=True):
        for real_features, fake_features in zip(r.features, f.features, strict=True):
            target = real_features.detach().float()
            size = target.abs().mean().clamp(min=torch.finfo(torch.float32).tiny)
            losses.append((fake_features.float() - target).abs().mean() / size)
    return torch.stack(losses).mean()


def discriminator_accuracy(real: list[Judgement], fake: list[Judgement]) -> Tensor:
    """Return the share of right logits: real above 1/2, fake below; the mean over discriminators."""
    shares = [
        ((r.logits > 0.5).float().mean() + (f.logits < 0.5).float().mean()) / 2
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(shares).mean()


def halves(judgements: list[Judgement]) -> tuple[list[Judgement], list[Judgement]]:
    """Return the judgements of a batch's first and second half: real and fake in one pass."""
    pairs = [
        [
            Judgement(*side)
            for side in zip(
                judgement.logits.chunk(2),
                map(list, zip(*(f.chunk(2) for f in judgement.features), strict=True)),
                strict=True,
            )
        ]
        for judgement in judgements
    ]
    return [real for real, _ in pairs], [fake for _, fake in pairs]
