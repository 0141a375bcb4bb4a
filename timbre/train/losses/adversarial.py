"""What generator and discriminator make of judgements of clean and restored, in float32.

Judgements are of joint batches: the first half is clean, which is real, the second restored, which is
fake. All losses are means over discriminators and layers, so that they mean the same under every preset.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from timbre.models.discriminators import Discriminators, Judgement
from timbre.train.parts import ADVERSARIAL, part

TINY = torch.finfo(torch.float32).tiny


def discriminator_loss(judgements: list[Judgement]) -> tuple[Tensor, Tensor]:
    """Return the least-squares loss (Mao et al. 2017), and the share of right logits.

    The loss is 0 when real is 1 and fake is 0; undecided logits of 1/2 give 0.5. Right is a real logit
    above 1/2, and a fake one below.
    """
    result: tuple[Tensor, Tensor] = _LeastSquares.apply(*(j.logits for j in judgements))
    return result


def generator_losses(
    discriminators: Discriminators, judgements: list[Judgement], planes: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the adversarial loss and feature matching, with gradients to the planes' fake halves.

    The adversarial one is least squares, 0 when every fake is taken for real. Feature matching is the
    L1 distance between activations, each layer relative to the real ones' mean size: no discriminator
    can make it small by shrinking its activations. The real side gets no gradient, nor do weights.

    Args:
        discriminators: whose judgements these are.
        judgements: of the planes; they need no graph.
        planes: with a graph to the restored waveforms.
    """
    result: tuple[Tensor, Tensor] = _GeneratorLosses.apply(discriminators, judgements, *planes)
    return result


class _LeastSquares(torch.autograd.Function):
    """Both results of :func:`discriminator_loss` by few operators; only the loss has a gradient."""

    @staticmethod
    def forward(context: Any, *logits: Tensor) -> tuple[Tensor, Tensor]:
        real = len(logits[0]) // 2
        target = torch.zeros(2 * real, 1, 1, 1, device=logits[0].device)
        target[:real] = 1.0
        count = len(logits)
        # Both halves are of one size, so that the sum of their means is twice the mean.
        shares = [2 / (count * logit.numel()) for logit in logits]
        misses = torch._foreach_sub(logits, [target] * count)
        context.save_for_backward(*misses)
        context.shares = shares
        loss = _total(_square_sums(misses), shares)
        # Below 1/2 towards the wrong side.
        wrong = torch._foreach_mul(misses, [1 - 2 * target] * count)
        torch._foreach_sub_(wrong, 0.5)
        right = torch._foreach_neg(torch._foreach_sign(wrong))
        torch._foreach_clamp_min_(right, 0.0)
        accuracy = _total(torch._foreach_norm(right, 1), [share / 2 for share in shares])
        context.mark_non_differentiable(accuracy)
        return loss, accuracy

    @staticmethod
    @once_differentiable
    def backward(context: Any, of_loss: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        gradients = torch._foreach_mul(context.saved_tensors, of_loss)
        torch._foreach_mul_(gradients, [2 * share for share in context.shares])
        return tuple(gradients)


class _GeneratorLosses(torch.autograd.Function):
    """Both results of :func:`generator_losses` by few operators."""

    @staticmethod
    def forward(
        context: Any,
        discriminators: Discriminators,
        judgements: list[Judgement],
        *planes: Tensor,
    ) -> tuple[Tensor, Tensor]:
        context.set_materialize_grads(False)
        real, fake = zip(*map(_halves, judgements), strict=True)
        logits = [judgement.logits for judgement in fake]
        shares = [1 / (len(logits) * logit.numel()) for logit in logits]
        misses = torch._foreach_sub([logit.float() for logit in logits], 1.0)
        adversarial = _total(_square_sums(misses), shares)

        targets = [feature for judgement in real for feature in judgement.features]
        features = [feature for judgement in fake for feature in judgement.features]
        counts = [float(feature.numel()) for feature in features]
        differences = torch._foreach_sub(features, targets)
        means = torch._foreach_norm(targets, 1, dtype=torch.float32)
        torch._foreach_div_(means, counts)
        torch._foreach_clamp_min_(means, TINY)
        distances = torch._foreach_norm(differences, 1, dtype=torch.float32)
        torch._foreach_div_(distances, means)
        matching = _total(distances, [1 / (len(counts) * count) for count in counts])

        context.discriminators, context.fake, context.shares = discriminators, fake, shares
        context.misses, context.differences, context.means = misses, differences, means
        context.save_for_backward(*planes)
        return adversarial, matching

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, of_adversarial: Tensor | None, of_matching: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        with part(ADVERSARIAL):
            return None, None, *_gradients(context, of_adversarial, of_matching)


def _gradients(
    context: Any, of_adversarial: Tensor | None, of_matching: Tensor | None
) -> list[Tensor]:
    """Return the gradients with respect to the planes of joint batches."""
    logits = [judgement.logits for judgement in context.fake]
    if of_adversarial is None:
        of_logits = [torch.zeros_like(logit) for logit in logits]
    else:
        of_logits = list(torch._foreach_mul(context.misses, of_adversarial))
        torch._foreach_mul_(of_logits, [2 * share for share in context.shares])
        of_logits = [g.to(logit.dtype) for g, logit in zip(of_logits, logits, strict=True)]
    of_features = None
    if of_matching is not None:
        count = len(context.differences)
        factors = torch._foreach_reciprocal(context.means)
        torch._foreach_mul_(factors, of_matching)
        torch._foreach_div_(factors, [float(count * d.numel()) for d in context.differences])
        of_features = list(torch._foreach_sign(context.differences))
        torch._foreach_mul_(of_features, factors)
    planes = [plane.chunk(2)[1] for plane in context.saved_tensors]
    of_planes = context.discriminators.gradients(planes, context.fake, of_logits, of_features)
    # The real half gets none.
    nothing = (0,) * 6
    return [F.pad(gradient, (*nothing, len(gradient), 0)) for gradient in of_planes]


def _halves(judgement: Judgement) -> tuple[Judgement, Judgement]:
    """Return the judgements of a joint batch's real and fake halves."""
    logits = judgement.logits.chunk(2)
    features = zip(*(feature.chunk(2) for feature in judgement.features), strict=True)
    real, fake = (
        Judgement(own, list(its), judgement.convolutions)
        for own, its in zip(logits, features, strict=True)
    )
    return real, fake


def _square_sums(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    norms = torch._foreach_norm(tensors, 2)
    return torch._foreach_mul(norms, norms)


def _total(values: tuple[Tensor, ...], shares: list[float]) -> Tensor:
    """Return the sum of scalars, each times its share."""
    return torch.stack(list(torch._foreach_mul(values, shares))).sum()
