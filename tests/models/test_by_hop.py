"""Causal generators by hop: any cutting gives what the whole signal gives at once."""

import pytest
import torch

from tests.help.by_hop import ALL, AnyCutting, generator_of
from tests.help.moved_generators import NAMES, build, noise
from timbre.audio import HOP
from timbre.models.spectral import SpectralGenerator
from timbre.models.spectral_by_hop import SpectralByHop
from timbre.models.wave_by_hop import WaveByHop
from timbre.restore.hop_runner import ByHop

BOTH = pytest.mark.parametrize("name", NAMES)


def build_step(generator: torch.nn.Module) -> ByHop:
    """The general step, which export uses."""
    kind = SpectralByHop if isinstance(generator, SpectralGenerator) else WaveByHop
    return kind(generator)  # type: ignore[arg-type]


class TestGeneralStep(AnyCutting):
    """The step that ``timbre export`` uses."""

    build = staticmethod(build_step)


@ALL
def test_silent_hops_before_the_signal_leave_no_trace(name: str) -> None:
    step = build_step(generator_of(name))
    degraded = 0.05 * noise(2, 20 * HOP)
    with torch.inference_mode():
        state = step.initial_state(2, wait_hops=3)
        for _ in range(3):
            _, state = step(torch.zeros(2, HOP), state)
        late, _ = step(degraded, state)
        directly, _ = step(degraded, step.initial_state(2))
    ready = slice(step.latency_samples, None)
    torch.testing.assert_close(late[:, ready], directly[:, ready], atol=0, rtol=0)


@BOTH
def test_a_generator_that_looks_ahead_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="looks ahead"):
        build_step(build(name))
