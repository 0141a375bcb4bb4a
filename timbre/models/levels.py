"""Levels of a spectrum: around each bin, around each frame, and of the last two seconds."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The level that features are relative to is the mean over this many past frames (2 s).
LEVEL_FRAMES = 200
# White noise of -100 dBFS; keeps silence finite.
LEVEL_FLOOR = 1e-5


class Levels(NamedTuple):
    """What a generator's limits depend on.

    near: ``(batch, frames, bins)``, the denoised signal's level around each bin.
    speech: ``(batch, frames, 1)``, its mean power over ``PAUSE_FRAMES``.
    trailing: likewise, :func:`trailing_level`.
    removed: as ``near``, of what the denoiser removed; None where that is unknown.
    """

    near: Tensor
    speech: Tensor
    trailing: Tensor
    removed: Tensor | None


class LocalLevel(nn.Module):
    """Root-mean-square magnitude around each bin; a causal one looks at past frames only."""

    def __init__(self, bins: int, frames: int, causal: bool) -> None:
        super().__init__()
        self.ahead = 0 if causal else frames // 2
        self.padding = (0, 0, frames - 1 - self.ahead, self.ahead)
        # Two passes cost bins + frames additions, one would cost bins * frames. Bins beyond the
        # spectrum are left out of the mean, frames beyond the signal are silent.
        self.over_bins = nn.AvgPool2d((1, bins), 1, (0, bins // 2), count_include_pad=False)
        self.over_frames = nn.AvgPool2d((frames, 1), 1)

    def forward(self, power: Tensor) -> Tensor:
        """Return magnitudes ``(batch, frames, bins)`` of powers of that shape."""
        padded = F.pad(power[:, None], self.padding)
        mean: Tensor = self.over_frames(self.over_bins(padded))[:, 0]
        # Not zero, where the root has no gradient; clamped for the reason in compression_factor.
        return torch.sqrt(mean.clamp(min=1e-20))


class LocalPower(nn.Module):
    """Mean power of the frames around each; a causal one looks at past frames only."""

    def __init__(self, frames: int, causal: bool) -> None:
        super().__init__()
        self.ahead = 0 if causal else frames // 2
        self.padding = (frames - 1 - self.ahead, self.ahead)
        self.frames = frames

    def forward(self, power: Tensor) -> Tensor:
        """Return ``(batch, frames, 1)`` of powers ``(batch, frames)``; silence is around the signal."""
        return F.avg_pool1d(F.pad(power, self.padding), self.frames, 1)[:, :, None]


def trailing_level(power: Tensor) -> Tensor:
    """Return the level of the last two seconds up to each frame, ``(batch, frames, 1)``.

    Near the start it is the mean over the frames so far; it never looks ahead.

    Args:
        power: ``(batch, frames, bins)``.
    """
    frames = power.mean(dim=2)
    total = F.avg_pool1d(F.pad(frames, (LEVEL_FRAMES - 1, 0)), LEVEL_FRAMES, 1) * LEVEL_FRAMES
    frames_so_far = torch.arange(1, frames.shape[1] + 1, device=power.device).clamp(
        max=LEVEL_FRAMES
    )
    return torch.sqrt((total / frames_so_far).clamp(min=LEVEL_FLOOR**2))[:, :, None]
