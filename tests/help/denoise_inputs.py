"""Inputs of the denoiser's tests, and a measure to compare outputs."""

import numpy as np
import torch
from torch import Tensor


def voice(samples: int, seed: int = 0) -> Tensor:
    """(samples,) float32: gliding harmonics in syllables, silent in between, at 48 kHz."""
    generator = np.random.default_rng(seed)
    time = np.arange(samples) / 48_000
    pitch_hz = 120 + 60 * generator.random() + 30 * np.sin(2 * np.pi * 1.3 * time + seed)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / 48_000
    tilt = [np.sin(k * phase + k) / k**0.8 for k in range(1, 40)]
    syllables = np.clip(np.sin(2 * np.pi * (3 + seed % 3) * time + 0.3), 0, None)
    return torch.from_numpy((0.06 * syllables * np.sum(tilt, axis=0)).astype(np.float32))


def noisy_voice(samples: int, seed: int = 0, noise: float = 0.02) -> Tensor:
    """(samples,) float32: the voice in white noise."""
    hiss = np.random.default_rng(1000 + seed).standard_normal(samples).astype(np.float32)
    return voice(samples, seed) + noise * torch.from_numpy(hiss)


def si_sdr_db(estimate: Tensor, reference: Tensor) -> float:
    """Scale-invariant signal-to-distortion ratio over all samples; infinite if equal."""
    estimate, reference = estimate.double().flatten(), reference.double().flatten()
    target = (estimate @ reference) / (reference @ reference) * reference
    return float(10 * torch.log10(target.square().sum() / (estimate - target).square().sum()))
