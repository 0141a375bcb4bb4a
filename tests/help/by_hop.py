"""Networks by hop: a signal in pieces against the whole signal at once."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.help.moved_generators import NAMES, build, noise
from timbre.audio import HOP
from timbre.restore.hop_runner import ByHop, HopRunner

# The limits make the spectral generator a third.
KINDS = (*NAMES, "limited")


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
    generator: torch.nn.Module,
    step: ByHop,
    sides: tuple[Tensor, Tensor | None],
    counts: list[int],
    tolerance: tuple[float, float] = (2e-6, 0.0),
) -> Tensor:
    """Hold calls of so many hops against the whole signal, which is returned, ``(batch, samples)``."""
    degraded, noisy = sides
    with torch.inference_mode():
        whole: Tensor = generator(degraded, noisy)[:, 0]
        pieces = in_hops(step, degraded, noisy, counts)
    torch.testing.assert_close(pieces, whole, atol=tolerance[0], rtol=tolerance[1])
    return whole


def check_cutting(
    generator: torch.nn.Module, step: ByHop, kind: str, noisy: bool, seed: int
) -> None:
    """Hold one of four cuttings of a long signal against the whole, and the whole against its input."""
    # One remembers two seconds, the other a third of one.
    degraded, second = signals(24_077 if kind == "wave" else 122_957, noisy)
    rng = torch.Generator().manual_seed(seed)
    random_counts = torch.randint(1, 12, (40,), generator=rng).tolist()
    counts = [[1], [3], [10**6]][seed] if seed < 3 else random_counts
    whole = check_pieces(generator, step, (degraded, second), counts)
    if kind == "limited":  # the limits are reached
        with torch.inference_mode():
            free = generator_of("spectral", noisy)(degraded, second)[:, 0]
        assert (whole - free).abs().max() > 0.01
    assert (whole - degraded[:, 0]).abs().max() > 0.01


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
