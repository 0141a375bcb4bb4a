"""The balancer gives each term its share of the gradient, whatever the terms' scales."""

import copy

import pytest
import torch
from accelerate import Accelerator

from timbre.train.gan.balance import Balancer, item_norms, shares

WEIGHTS = {"loud": 1.0, "quiet": 3.0}


def gradients(seed: int, batch: int = 4) -> dict[str, torch.Tensor]:
    """Return the gradients of two means over the batch, five decades apart."""
    noise = torch.randn(2, batch, 1, 500, generator=torch.Generator().manual_seed(seed)) / batch
    return {"loud": 1e3 * noise[0], "quiet": 1e-2 * noise[1]}


def balance(balancer: Balancer, parts: dict[str, torch.Tensor]) -> torch.Tensor:
    factors = balancer.factors(item_norms(parts), WEIGHTS)
    return torch.stack([factors[name] * part for name, part in parts.items()]).sum(0)


def test_balanced_gradients_are_those_of_encodecs_definition() -> None:
    """Return the factors: weight / sum of weights / bias-corrected average of norms."""
    balancer, decay = Balancer(0.9, Accelerator()), 0.9
    history: dict[str, list[float]] = {name: [] for name in WEIGHTS}
    for step in range(6):
        parts = gradients(step)
        expected = torch.zeros(4, 1, 500)
        for name, part in parts.items():
            # The gradient of an item's own loss is four times its share in the batch's mean.
            history[name].append(sum(float((4 * item).norm()) for item in part) / 4)
            powers = [decay**age for age in reversed(range(step + 1))]
            average = sum(p * h for p, h in zip(powers, history[name], strict=True)) / sum(powers)
            expected += part * WEIGHTS[name] / 4.0 / average
        torch.testing.assert_close(balance(balancer, parts), expected, rtol=1e-4, atol=1e-9)


def test_weights_are_shares_of_a_gradient_of_length_one_an_item() -> None:
    balancer = Balancer(0.999, Accelerator())
    for batch in (2, 8):
        parts = gradients(0, batch)
        norms = item_norms(parts)
        factors = balancer.factors(norms, WEIGHTS)
        weights = shares(norms, factors)
        assert float(weights["quiet"]) == pytest.approx(0.75, rel=0.05)
        lengths = (batch * balance(balancer, parts)).flatten(1).norm(dim=1)
        assert float(lengths.mean()) == pytest.approx((0.25**2 + 0.75**2) ** 0.5, rel=0.05)


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_a_gradient_that_says_nothing_leaves_the_averages_as_they_are(value: float) -> None:
    balancer = Balancer(0.9, Accelerator())
    nothing = {name: part * value for name, part in gradients(1).items()}
    balance(balancer, nothing)
    first = balance(balancer, gradients(0))
    torch.testing.assert_close(first, balance(Balancer(0.9, Accelerator()), gradients(0)))
    before = copy.deepcopy(balancer.state_dict())
    balance(balancer, nothing)
    assert all(balancer.averages[name].equal(before[name]) for name in before)


def test_shares_are_measured_after_the_weights() -> None:
    norms = {"a": torch.tensor(1.0), "b": torch.tensor(3.0)}
    weights = shares(norms, {"a": 9.0, "b": 1.0})
    assert [float(weights[name]) for name in "ab"] == pytest.approx([0.75, 0.25])
