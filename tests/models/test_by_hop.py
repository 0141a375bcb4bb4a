"""Causal generators by hop: any cutting gives what the whole signal gives at once."""

import pytest
import torch

from tests.help.by_hop import KINDS, check_cutting, check_pieces, generator_of, signals
from tests.help.moved_generators import NAMES, build, noise
from timbre.audio import HOP
from timbre.models.spectral import SpectralGenerator
from timbre.models.spectral_by_hop import SpectralByHop
from timbre.models.wave_by_hop import WaveByHop
from timbre.restore.hop_runner import ByHop

ALL = pytest.mark.parametrize("name", KINDS)
BOTH = pytest.mark.parametrize("name", NAMES)
HEARING = pytest.mark.parametrize("noisy", [False, True], ids=["alone", "noisy"])


def build_step(generator: torch.nn.Module) -> ByHop:
    """The general step, which export uses."""
    kind = SpectralByHop if isinstance(generator, SpectralGenerator) else WaveByHop
    return kind(generator)  # type: ignore[arg-type]


@ALL
@HEARING
@pytest.mark.parametrize("seed", range(4))
def test_any_cutting_equals_the_whole(name: str, noisy: bool, seed: int) -> None:
    generator = generator_of(name, noisy)
    check_cutting(generator, build_step(generator), name, noisy, seed)


@ALL
@HEARING
@pytest.mark.parametrize("samples", [1, 479, 480, 481, 959, 960, 961, 5000])
def test_any_length_ends_like_the_whole(name: str, noisy: bool, samples: int) -> None:
    generator = generator_of(name, noisy)
    check_pieces(generator, build_step(generator), signals(samples, noisy), [1, 2])


@ALL
def test_the_size_that_is_trained_by_default_agrees_too(name: str) -> None:
    generator = generator_of(name, True, "small")
    check_pieces(generator, build_step(generator), signals(9_600, True), [1], (1e-5, 1e-5))


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
