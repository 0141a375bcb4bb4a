"""A step down a gradient is taken as it should be, or not at all."""

from typing import Any

import pytest
import torch

from timbre.train.gan.descent import Descent


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def snapshot(descent: Descent) -> list[torch.Tensor]:
    state: list[dict[str, Any]] = [descent.optimizer.state[p] for p in descent.parameters]
    moments = [s[name] for s in state for name in ("step", "exp_avg", "exp_avg_sq")]
    return [t.detach().clone() for t in (*descent.parameters, *moments)]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_gradient_that_is_not_finite_moves_neither_weights_nor_moments(scaled: bool) -> None:
    net = network()
    descent = Descent(net, 1e-2, 10.0, scaled)
    inputs = torch.randn(3, 4)
    for _ in range(2):
        assert descent.descend(net(inputs).square().mean()).isfinite()
    before = snapshot(descent)
    for bad in (float("nan"), float("inf")):
        assert not descent.descend(net(inputs).square().mean() * bad).isfinite()
    for one, other in zip(before, snapshot(descent), strict=True):
        assert one.equal(other)
    assert descent.descend(net(inputs).square().mean()).isfinite()
    assert not any(a.equal(b) for a, b in zip(before, snapshot(descent), strict=True))
    # Only fp16 needs another scale: two overflows halve it twice.
    assert descent.scaler.get_scale() == (2.0**14 if scaled else 1.0)


def test_steps_are_those_of_clipped_adamw() -> None:
    ours, theirs = network(), network()
    descent = Descent(ours, 1e-2, 0.1, False)
    adamw = torch.optim.AdamW(theirs.parameters(), 1e-2, betas=(0.8, 0.99))
    inputs = torch.randn(3, 4)
    for _ in range(5):
        norm = descent.descend(ours(inputs).square().mean())
        adamw.zero_grad()
        theirs(inputs).square().mean().backward()
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        torch.testing.assert_close(norm, expected)
        adamw.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_descending_an_outputs_gradient_is_descending_the_loss() -> None:
    ours, theirs = network(), network()
    inputs = torch.randn(3, 4)
    output = ours(inputs)
    descent = Descent(ours, 1e-2, 10.0, True)
    parts = descent.gradients({"a": output.square().mean(), "b": output.abs().mean()}, output)
    torch.testing.assert_close(parts["a"], 2 * output.detach() / 3)
    descent.descend(output, parts["a"] + parts["b"])
    output = theirs(inputs)
    Descent(theirs, 1e-2, 10.0, False).descend(output.square().mean() + output.abs().mean())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)
