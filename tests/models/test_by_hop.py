"""Causal generators in pieces: any cutting gives what the whole signal gives at once."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.help.moved_generators import NAMES, build, noise
from timbre.audio import HOP
from timbre.models.spectral import SpectralGenerator
from timbre.models.spectral_by_hop import SpectralByHop
from timbre.models.wave_by_hop import WaveByHop
from timbre.restore.hop_runner import ByHop
from timbre.restore.live.restorer import build_live

# The limits make the spectral generator a third.
KINDS = (*NAMES, "limited")
ALL = pytest.mark.parametrize("name", KINDS)
BOTH = pytest.mark.parametrize("name", NAMES)
HEARING = pytest.mark.parametrize("noisy", [False, True], ids=["alone", "noisy"])
FAST = pytest.mark.parametrize("fast", [False, True], ids=["general", "fast"])


def build_step(generator: torch.nn.Module) -> ByHop:
    """The general step, which export uses."""
    kind = SpectralByHop if isinstance(generator, SpectralGenerator) else WaveByHop
    return kind(generator)  # type: ignore[arg-type]


def step_of(
    name: str, noisy: bool = False, size: str = "tiny", fast: bool = False
) -> tuple[torch.nn.Module, ByHop]:
    kind, limits = ("spectral", True) if name == "limited" else (name, False)
    generator = build(kind, size, True, True, noisy, limits).eval()
    return generator, (build_live if fast else build_step)(generator)  # type: ignore[operator]


def signals(samples: int, noisy: bool) -> tuple[Tensor, Tensor | None]:
    """Two streams with a silence and a pause, and what the denoiser's input might have been."""
    degraded = 0.05 * noise(2, 1, samples)
    degraded[..., samples // 3 : samples // 2] = 0
    degraded[..., 2 * samples // 3 : 4 * samples // 5] *= 0.03  # the lift falls there
    before = 0.05 * noise(2, 1, samples, seed=1)
    before[..., samples // 5 : samples // 4] = 0  # frames without a limit of the change
    return degraded, before if noisy else None


def in_hops(step: ByHop, degraded: Tensor, noisy: Tensor | None, counts: list[int]) -> Tensor:
    """The restored (batch, samples), from calls of so many hops each, again and again."""
    samples = degraded.shape[-1]
    padding = (0, -samples % HOP + step.latency_samples)
    first = F.pad(degraded[:, 0], padding)
    second = None if noisy is None else F.pad(noisy[:, 0], padding)
    state, position, out = step.initial_state(len(first)), 0, []
    while position < first.shape[1]:
        part = slice(position, position + HOP * counts[len(out) % len(counts)])
        second_part = None if second is None else second[:, part]
        ready, state = step(first[:, part], state, second_part)
        out.append(ready)
        position = part.stop
    return torch.cat(out, dim=1)[:, step.latency_samples :][:, :samples]


@ALL
@HEARING
@FAST
@pytest.mark.parametrize("seed", range(4))
def test_any_cutting_equals_the_whole(name: str, noisy: bool, fast: bool, seed: int) -> None:
    generator, step = step_of(name, noisy, fast=fast)
    # One remembers two seconds, the other a third of one.
    degraded, second = signals(24_077 if name == "wave" else 122_957, noisy)
    random_counts = torch.randint(
        1, 12, (40,), generator=torch.Generator().manual_seed(seed)
    ).tolist()
    counts = [[1], [3], [10**6]][seed] if seed < 3 else random_counts
    with torch.inference_mode():
        whole = generator(degraded, second)[:, 0]
        pieces = in_hops(step, degraded, second, counts)
        if name == "limited":  # they are reached
            free = step_of("spectral", noisy)[0](degraded, second)[:, 0]
            assert (whole - free).abs().max() > 0.01
    assert (whole - degraded[:, 0]).abs().max() > 0.01
    torch.testing.assert_close(pieces, whole, atol=2e-6, rtol=0)


@ALL
@HEARING
@FAST
@pytest.mark.parametrize("samples", [1, 479, 480, 481, 959, 960, 961, 5000])
def test_any_length_ends_like_the_whole(name: str, noisy: bool, fast: bool, samples: int) -> None:
    generator, step = step_of(name, noisy, fast=fast)
    degraded, second = signals(samples, noisy)
    with torch.inference_mode():
        whole = generator(degraded, second)[:, 0]
        torch.testing.assert_close(
            in_hops(step, degraded, second, [1, 2]), whole, atol=2e-6, rtol=0
        )


@ALL
@FAST
def test_the_size_that_is_trained_by_default_agrees_too(name: str, fast: bool) -> None:
    generator, step = step_of(name, True, "small", fast)
    degraded, second = signals(9_600, True)
    with torch.inference_mode():
        whole = generator(degraded, second)[:, 0]
        pieces = in_hops(step, degraded, second, [1])
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


@ALL
def test_silent_hops_before_the_signal_leave_no_trace(name: str) -> None:
    step = build_step(step_of(name)[0])
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
