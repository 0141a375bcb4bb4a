"""Chunks: cutting a signal changes nothing, and each stage gets just the context that it needs."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.help.moved_generators import build, noise
from timbre.audio import HOP
from timbre.denoise import DeepFilterNet3
from timbre.denoise.by_hop import DenoiserByHop
from timbre.restore.chunks import ChunkWindow, denoise_blocks, generate_blocks, window_of

# Longer than the longest history (2.5 s) and some chunks; the wave generators' is 0.4 s.
LONG, SHORTER = 150_000, 60_000
KINDS = [(name, causal) for name in ("spectral", "wave") for causal in (False, True)]


def pieces_of(signal: Tensor, seed: int) -> Iterator[Tensor]:
    """Blocks of all sizes, from a sample to a second."""
    rng = np.random.default_rng(seed)
    at = 0
    while at < signal.shape[-1]:
        size = int(rng.choice([1, 479, 480, 4801, 20_000, 48_000]))
        yield signal[..., at : at + size]
        at += size


def join(blocks: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    first, second = torch.cat(list(blocks), dim=2)
    return first, second


def window_for(name: str, causal: bool) -> ChunkWindow:
    generator = build(name, causal=causal)
    return window_of(30 * HOP, generator.history_samples, generator.latency_samples)  # type: ignore[arg-type]


def differing(name: str, causal: bool, window: ChunkWindow, samples: int) -> float:
    """Return the largest difference to the whole, in float64, for a generator with two inputs."""
    generator = build(name, causal=causal, moved=True, noisy_input=True).double()
    signals = 0.05 * noise(2, 1, samples, seed=1).double()
    with torch.inference_mode():
        whole = generator(signals[0][:, None], signals[1][:, None])[:, 0]
        first, second = join(
            generate_blocks(
                lambda window: generator(window[0][:, None], window[1][:, None])[:, 0],
                pieces_of(signals, 0),
                window,
            )
        )
    assert torch.equal(first, signals[0])
    return float((second - whole).abs().max())


@pytest.mark.parametrize(("name", "causal"), KINDS)
@pytest.mark.parametrize("samples", [1, 12_345, LONG])
def test_a_generator_in_chunks_gives_what_it_gives_of_the_whole(
    name: str, causal: bool, samples: int
) -> None:
    length = min(samples, LONG if name == "spectral" else SHORTER)
    assert differing(name, causal, window_for(name, causal), length) < 1e-13


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_window_that_is_a_hop_too_narrow_shows(side: str) -> None:
    window = window_for("spectral", False)
    # Rounding to hops may have added one.
    narrow = window._replace(**{side: getattr(window, side) - 2 * HOP})
    assert differing("spectral", False, narrow, LONG) > 1e-12


@pytest.mark.parametrize("samples", [1, 480, 1919, 96_000, 100_001])
def test_the_denoiser_in_blocks_gives_what_it_gives_of_the_whole(samples: int) -> None:
    model = DeepFilterNet3.load()
    noisy = 0.05 * noise(2, samples)
    denoised, noisy_late = join(denoise_blocks(DenoiserByHop(model), pieces_of(noisy, samples)))
    whole = model(noisy)
    assert torch.equal(noisy_late, noisy)
    assert denoised.shape == whole.shape
    power = whole.square().sum().item()
    assert (denoised - whole).square().sum().item() <= max(1e-10 * power, 1e-16)


def test_windows_are_whole_hops() -> None:
    for samples, history, latency in [(1, 1, 1), (480, 480, 959), (719, 107_999, 12_479)]:
        window = window_of(samples, history, latency)
        assert all(length % HOP == 0 for length in window)
        assert window.before >= history and window.after >= latency and window.samples >= HOP
        assert math.isclose(window.before, history, abs_tol=HOP)
