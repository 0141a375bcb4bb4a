"""A step down a gradient is taken as it should be, or not at all."""

from typing import Any

import pytest
import torch

from tests.help.plain_gan import PlainDiscriminators
from timbre.models.discriminators import PRESETS, Discriminators
from timbre.train.gan.descent import Descent

RATE = torch.tensor(1e-2)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


def snapshot(descent: Descent) -> list[torch.Tensor]:
    state: list[dict[str, Any]] = [descent.optimizer.state[p] for p in descent.parameters]
    moments = [s[name] for s in state for name in ("step", "exp_avg", "exp_avg_sq")]
    return [t.detach().clone() for t in (*descent.parameters, *moments)]


@pytest.mark.parametrize("with_scaler", [False, True])
def test_a_gradient_that_is_not_finite_moves_neither_weights_nor_moments(with_scaler: bool) -> None:
    net = network()
    descent = Descent(net, RATE, 10.0, with_scaler)
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
    assert descent.scaler.get_scale() == (2.0**14 if with_scaler else 1.0)


def test_steps_are_those_of_clipped_adamw() -> None:
    ours, theirs = network(), network()
    descent = Descent(ours, RATE, 0.1, False)
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
    descent = Descent(ours, RATE, 10.0, True)
    parts = descent.gradients({"a": output.square().mean(), "b": output.abs().mean()}, output)
    torch.testing.assert_close(parts["a"], 2 * output.detach() / 3)
    descent.descend(output, parts["a"] + parts["b"])
    output = theirs(inputs)
    Descent(theirs, RATE, 10.0, False).descend(output.square().mean() + output.abs().mean())
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_the_rate_is_read_where_it_lies() -> None:
    net, rate = network(), torch.tensor(0.0)
    descent = Descent(net, rate, 10.0, False)
    inputs = torch.randn(3, 4)
    before = [p.detach().clone() for p in net.parameters()]
    descent.descend(net(inputs).square().mean())
    assert all(a.equal(b) for a, b in zip(before, net.parameters(), strict=True))
    descent.load_state_dict(descent.state_dict())
    rate.fill_(1e-2)
    descent.descend(net(inputs).square().mean())
    assert not any(a.equal(b) for a, b in zip(before, net.parameters(), strict=True))


def test_the_state_of_stacked_weights_is_that_of_an_optimizer_of_single_ones() -> None:
    """A state from before weights were stacked goes on here, and a new state would go on there."""
    torch.manual_seed(0)
    plain = PlainDiscriminators(PRESETS["light"])
    ours = Discriminators(PRESETS["light"])
    ours.load_state_dict(plain.state_dict())
    adamw = torch.optim.AdamW(plain.parameters(), 1e-2, betas=(0.8, 0.99), fused=True)
    waves = torch.randn(1, 1, 600)
    targets = [torch.randn_like(j.logits) for j in plain(waves)]

    def plainly() -> None:
        adamw.zero_grad()
        loss = sum(
            (j.logits - t).square().mean() for j, t in zip(plain(waves), targets, strict=True)
        )
        loss.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 10.0)
        adamw.step()

    def descend_stack(descent: Descent, network: Discriminators) -> None:
        judgements = zip(network.judge(waves), targets, strict=True)
        descent.descend(torch.stack([(j.logits - t).square().mean() for j, t in judgements]).sum())

    for _ in range(2):
        plainly()
    ours.load_state_dict(plain.state_dict())
    descent = Descent(ours, RATE, 10.0, False)
    descent.load_state_dict(adamw.state_dict())
    state, expected = descent.state_dict(), adamw.state_dict()
    assert state["state"].keys() == expected["state"].keys()
    for number, moments in expected["state"].items():
        for kind, value in moments.items():
            assert state["state"][number][kind].equal(value), (number, kind)
    (own,), (group,) = state["param_groups"], expected["param_groups"]
    assert {**own, "lr": float(RATE)} == {**group, "lr": float(RATE)}
    plainly()
    descend_stack(descent, ours)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    fresh = Descent(Discriminators(PRESETS["light"]), RATE, 10.0, False).state_dict()
    assert fresh["state"] == {} and fresh["param_groups"][0]["params"] == group["params"]
