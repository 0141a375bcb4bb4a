"""Noise that no pair holds: how much of what the denoiser removed the generator brings back."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from timbre.audio.levels import LEVEL_FRAME
from timbre.audio.synthetic.denoised_probe import denoised_probes

# A generator may lift what is left of a noise by so much for nothing; then each dB costs, as a mean
# over the probes. A lift by 40 dB, as of noise let through, costs about what a good restorer gains.
FREE_LIFT_DB = 3.0
PENALTY_PER_DB = 0.01
PREFIX = "val/stress/"

# Takes degraded and noisy ``(1, 1, samples)``, or None; returns the restored signal like them.
Restore = Callable[[Tensor, Tensor | None], Tensor]


def measure_stress(restore: Restore, device: torch.device, noisy: bool) -> dict[str, float]:
    """Return by how many dB each probe's residue is louder than before, under ``val/stress/...``.

    Args:
        restore: the generator.
        device: of its input.
        noisy: whether it also gets the noisy signal.
    """
    lifts = {}
    for probe in denoised_probes():
        degraded, noise, clean = (
            torch.from_numpy(wave).to(device) for wave in (probe.degraded, probe.noisy, probe.clean)
        )
        restored = restore(degraded[None, None], noise[None, None] if noisy else None)[0, 0]
        silent = _frame_power(clean) == 0
        before, after = (_frame_power(wave)[silent].mean() for wave in (degraded, restored))
        lifts[PREFIX + probe.name] = 10 * math.log10(max(float(after / before), 1e-20))
    return lifts


def stress_penalty(figures: Mapping[str, float]) -> float:
    """Return what the lifts of ``val/stress/...`` cost in the score, at least 0; NaN stays NaN."""
    lifts = [value for name, value in figures.items() if name.startswith(PREFIX)]
    costs = [0.0 if lift <= FREE_LIFT_DB else lift - FREE_LIFT_DB for lift in lifts]
    return PENALTY_PER_DB * math.fsum(costs) / len(costs) if costs else 0.0


def _frame_power(wave: Tensor) -> Tensor:
    """Return the mean power of whole frames of 20 ms, ``(frames,)``."""
    frames = wave[: len(wave) // LEVEL_FRAME * LEVEL_FRAME].reshape(-1, LEVEL_FRAME)
    return frames.double().square().mean(dim=1)
