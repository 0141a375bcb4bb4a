"""Networks by hop: a signal in pieces against the whole signal at once."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.help.moved_generators import NAMES, build, noise
from timbre.audio import HOP
from timbre.restore.hop_runner import ByHop, HopRunner

# The limits make the spectral generator a third.
KINDS = (*NAMES, "limited")
ALL = pytest.mark.parametrize("name", KINDS)
HEARING = pytest.mark.parametrize("noisy", [False, True], ids=["alone", "noisy"])


def generator_of(kind: str, noisy: bool = False, size: str = "tiny") -> torch.nn.Module:
    """Return a causal generator away from its identity start."""
    name, limits = ("spectral", True) if kind == "limited" else (kind, False)
    return build(name, size, True, True, noisy, limits).eval()


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


def check_pieces(
    whole: Tensor,
    step: ByHop,
    sides: tuple[Tensor, Tensor | None],
    counts: list[int],
    tolerance: tuple[float, float] = (2e-6, 0.0),
) -> None:
    """Hold calls of so many hops against the restored whole signal, ``(batch, samples)``."""
    with torch.inference_mode():
        pieces = in_hops(step, *sides, counts)
    torch.testing.assert_close(pieces, whole, atol=tolerance[0], rtol=tolerance[1])


class AnyCutting:
    """What holds of every way to take a causal generator by hop; ``build`` makes it of a generator."""

    build: Callable[[torch.nn.Module], ByHop]

    @ALL
    @HEARING
    def test_any_cutting_equals_the_whole(self, name: str, noisy: bool) -> None:
        generator = generator_of(name, noisy)
        step = self.build(generator)
        # One remembers two seconds, the other a third of one.
        degraded, second = signals(24_077 if name == "wave" else 122_957, noisy)
        rng = torch.Generator().manual_seed(3)
        random_counts = torch.randint(1, 12, (40,), generator=rng).tolist()
        with torch.inference_mode():
            whole: Tensor = generator(degraded, second)[:, 0]
        for counts in ([1], [10**6], random_counts):
            check_pieces(whole, step, (degraded, second), counts)
        if name == "limited":  # the limits are reached
            with torch.inference_mode():
                free = generator_of("spectral", noisy)(degraded, second)[:, 0]
            assert (whole - free).abs().max() > 0.01
        assert (whole - degraded[:, 0]).abs().max() > 0.01

    @ALL
    @HEARING
    @pytest.mark.parametrize("samples", [1, 479, 480, 481, 959, 960, 961, 5000])
    def test_any_length_ends_like_the_whole(self, name: str, noisy: bool, samples: int) -> None:
        generator, sides = generator_of(name, noisy), signals(samples, noisy)
        with torch.inference_mode():
            whole = generator(*sides)[:, 0]
        check_pieces(whole, self.build(generator), sides, [1, 2])

    @ALL
    def test_the_size_that_is_trained_by_default_agrees_too(self, name: str) -> None:
        generator, sides = generator_of(name, True, "small"), signals(9_600, True)
        with torch.inference_mode():
            whole = generator(*sides)[:, 0]
        check_pieces(whole, self.build(generator), sides, [1], (1e-5, 1e-5))


def pieces_of(signal: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """The signal in pieces of these sizes, again and again."""
    first = turn = 0
    while first < signal.shape[1]:
        size = sizes[turn % len(sizes)]
        yield signal[:, first : first + size]
        first, turn = first + size, turn + 1


def in_pieces(step: ByHop, signal: Tensor, sizes: list[int]) -> Tensor:
    stream = HopRunner(step, len(signal))
    return torch.cat([*map(stream.push, pieces_of(signal, sizes)), stream.flush()], dim=1)
