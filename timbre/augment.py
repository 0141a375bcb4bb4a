"""Batch augmentation on the device: parameters are drawn apart from applying them.

They come from (seed, epoch, position in the epoch's order), so they are the same at any number of
ranks and after any resume.
"""

from typing import NamedTuple

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from timbre.audio import SAMPLE_RATE
from timbre.config import STRICT, Share

# Keeps these draws apart from those of the crop, which uses (seed, epoch, position) alone.
STREAM = 1
# The low-pass falls over this width, and its ringing has died down within the padding.
TRANSITION_HZ = 400.0
PADDING = 960


@dataclass(config=STRICT)
class AugmentConfig:
    """What is done to both sides of a pair alike."""

    gain_low: float = 0.8
    gain_high: float = 1.0
    flip_polarity: bool = False
    # Speech corpora end at 15 to 19 kHz; a network that sees only those learns to cut what lies
    # above. A cut at random frequencies makes it look at its input's own bandwidth.
    low_pass_share: Share = 0.3
    low_pass_low_hz: float = 4000.0
    low_pass_high_hz: float = 20000.0

    def __post_init__(self) -> None:
        if not 0 < self.gain_low <= self.gain_high <= 1:
            raise ValueError(
                f"gain_low {self.gain_low}, gain_high {self.gain_high}: expected 0 < low <= high <= 1"
            )
        if not 1000 <= self.low_pass_low_hz <= self.low_pass_high_hz <= SAMPLE_RATE / 2:
            raise ValueError(
                f"low_pass_low_hz {self.low_pass_low_hz}, low_pass_high_hz {self.low_pass_high_hz}: "
                f"expected 1000 <= low <= high <= {SAMPLE_RATE // 2}"
            )


class Draw(NamedTuple):
    """One batch's parameters, each ``(batch,)``: a signed gain, and a cut-off in Hz."""

    gain: Tensor
    low_pass_hz: Tensor

    def to(self, device: torch.device) -> "Draw":
        """Return the parameters on a device."""
        return Draw(*(value.to(device, non_blocking=True) for value in self))


def draw(config: AugmentConfig, seed: int, epoch: int, positions: Tensor) -> Draw:
    """Return the parameters for the pairs at ``positions`` ``(batch,)`` of an epoch's order."""
    gains, cuts = [], []
    for position in positions.tolist():
        rng = np.random.default_rng([seed, epoch, position, STREAM])
        sign = -1 if rng.random() < 0.5 and config.flip_polarity else 1
        gains.append(sign * rng.uniform(config.gain_low, config.gain_high))
        cut = rng.uniform(config.low_pass_low_hz, config.low_pass_high_hz)
        cuts.append(cut if rng.random() < config.low_pass_share else SAMPLE_RATE / 2)
    return Draw(torch.tensor(gains), torch.tensor(cuts))


def apply(
    parameters: Draw, degraded: Tensor, clean: Tensor, bandwidth_hz: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return both waveforms and the bandwidth that is left after the low-pass.

    Args:
        parameters: on the waveforms' device.
        degraded: ``(batch, 1, samples)`` float32.
        clean: ``(batch, 1, samples)`` float32.
        bandwidth_hz: ``(batch,)``.
    """
    sides = torch.cat([degraded, clean], dim=1) * parameters.gain[:, None, None]
    sides = low_pass(sides, parameters.low_pass_hz)
    degraded, clean = sides.chunk(2, dim=1)
    return degraded, clean, torch.minimum(bandwidth_hz, parameters.low_pass_hz)


def low_pass(waves: Tensor, cut_hz: Tensor) -> Tensor:
    """Return ``(batch, side, samples)`` without what lies above each pair's cut-off, in phase.

    The gain is 1 up to the cut-off less the transition; a cut-off at half the rate changes nothing.
    """
    samples = waves.shape[-1]
    spectrum = torch.fft.rfft(waves, samples + PADDING)
    frequency = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[-1], device=waves.device)
    into = (frequency - (cut_hz[:, None] - TRANSITION_HZ)) / TRANSITION_HZ
    response = 0.5 + 0.5 * torch.cos(torch.pi * into.clamp(0, 1))
    whole = (cut_hz >= SAMPLE_RATE / 2)[:, None]
    response = torch.where(whole, torch.ones_like(response), response)
    filtered: Tensor = torch.fft.irfft(spectrum * response[:, None], samples + PADDING)
    return filtered[..., :samples]
