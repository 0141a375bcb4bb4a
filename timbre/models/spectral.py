"""The default generator: ConvNeXt blocks over spectra predict what to do to each bin.

The body is that of Vocos (Siuzdak 2023); the head predicts a correction like AP-BWE's (Lu et al.
2024), so that an untrained network returns its input.

Windows are DF3's own, 960 samples every 480. On 12 pairs at 0-20 dB SNR the clean magnitudes with
DF3's phase reach PESQ 4.18 there, 3.97 at 1920/480 and 3.94 at 1920/960, and SI-SDR 23.1, 23.6 and
23.0 dB: longer windows resolve low voices better, but smear the gaps that DF3 cut frame by frame,
and double the latency.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timbre.audio import HOP
from timbre.audio.spectra import FramedFourier, compression_factor
from timbre.models.checks import Size, check_noisy
from timbre.models.levels import LEVEL_FRAMES, Levels, LocalLevel, LocalPower, trailing_level
from timbre.models.limits import (
    PAUSE_FRAMES,
    Spectrum,
    falling_lift,
    lift_of,
    limit_change,
    limit_lift,
    removed_power,
)

# Gains are bounded at ±5 nepers (43 dB): enough for all but 0.5 % of the bins that DF3 damaged.
MAX_LOG_GAIN = 5.0
# Magnitudes this far below the level look the same to the network (-80 dB).
FEATURE_FLOOR = 1e-4
# The mean of clean voices' log magnitudes (0.8-1.2 on four recordings), which is taken off them.
CENTRE = 1.0
KERNEL = 7


class SpectralSize(NamedTuple):
    """Width of the body, width inside its blocks, number of blocks."""

    width: int
    hidden: int
    blocks: int


SIZES = {
    "tiny": SpectralSize(64, 192, 4),  # 0.32 M parameters
    "small": SpectralSize(256, 768, 8),  # 4.0 M
    "base": SpectralSize(512, 1536, 8),  # 14 M
}


class SpectralGenerator(nn.Module):
    """Corrects every bin of a spectrum by a gain, a rotation and an additive term.

    With ``noisy_input`` it also adds a share of the noisy signal's bin, which has the phase of what
    the denoiser cut. With ``max_lift_db`` and ``limit_change`` no weights can raise or change a bin
    beyond these limits (``timbre.models.limits``), and with ``limit_pauses`` the first falls in
    pauses. They have no weights of their own, so that any generator can be built with them.

    Scaling the input scales the output equally: the network sees the spectra relative to the
    level of the degraded one's last two seconds. Spectra, head and correction are float32 under autocast, which
    only the body's products follow: rounding them to bfloat16 can be heard.

    ``latency_samples`` and ``history_samples`` are exact: ``output[n]`` depends on
    ``input[n - history_samples : n + latency_samples + 1]``.
    """

    def __init__(
        self,
        size: Size,
        causal: bool,
        noisy_input: bool = False,
        max_lift_db: float | None = None,
        limit_change: bool = False,
        limit_pauses: bool = False,
    ) -> None:
        super().__init__()
        shape = SIZES[size]
        self.max_lift_db, self.limits_change = max_lift_db, limit_change
        self.limits_pauses = limit_pauses
        self.fourier = FramedFourier(HOP)
        self.near = LocalLevel(bins=17, frames=5, causal=causal)
        self.wide = LocalLevel(bins=129, frames=9, causal=causal)
        self.speech = LocalPower(PAUSE_FRAMES, causal)
        self.embed = nn.Linear(3 * self.fourier.bins, shape.width)
        self.embed_norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.blocks = nn.ModuleList(ConvNextBlock(shape, causal) for _ in range(shape.blocks))
        self.head_norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.head = nn.Linear(shape.width, 4 * self.fourier.bins)
        # Zero: the identity. The head learns in the first step, the body from the second on.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.noisy_path = NoisyPath(self.fourier.bins, shape.width) if noisy_input else None
        ahead = 0 if causal else max(shape.blocks * (KERNEL // 2), self.wide.ahead)
        self.latency_samples = 2 * HOP - 1 + HOP * ahead
        behind = shape.blocks * (KERNEL - 1 if causal else KERNEL // 2) + LEVEL_FRAMES - 1
        self.history_samples = 2 * HOP - 1 + HOP * behind

    def forward(self, degraded: Tensor, noisy: Tensor | None = None) -> Tensor:
        """Return the restored waveforms, ``(batch, 1, samples)`` like ``degraded``.

        Args:
            degraded: ``(batch, 1, samples)``.
            noisy: likewise, what the denoiser made ``degraded`` of, at the same gain and in time
                with it; rows of zeros equal none.

        Raises:
            ValueError: ``noisy`` has another shape, or this generator takes none.
        """
        check_noisy(degraded, noisy, self.noisy_path is not None)
        with torch.autocast(degraded.device.type, enabled=False):
            real, imaginary = self.fourier.analyse(degraded)
            power = real.square() + imaginary.square()
            level = trailing_level(power)
            features = spectral_features(real, imaginary, level)
            noisy_spectrum = None if noisy is None else self.fourier.analyse(noisy)
        hidden = self.embed(features)
        if self.noisy_path is not None and noisy_spectrum is not None:
            hidden = hidden + self.noisy_path(*noisy_spectrum, level)
        hidden = self.embed_norm(hidden).transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden)
        with torch.autocast(degraded.device.type, enabled=False):
            normed = self.head_norm(hidden.transpose(1, 2).to(degraded.dtype))
            near = self.near(power)
            local = near + 0.3 * self.wide(power)
            change = spectral_change(real, imaginary, self.head(normed), local)
            if self.noisy_path is not None and noisy_spectrum is not None:
                share = self.noisy_path.share(normed)
                change = (
                    change[0] + share * noisy_spectrum[0],
                    change[1] + share * noisy_spectrum[1],
                )
            removed = None
            if self.limits_change and noisy_spectrum is not None:
                removed = self.near(removed_power((real, imaginary), noisy_spectrum))
            levels = Levels(near, self.speech(power.mean(dim=2)), level, removed)
            change = self.limit(change, (real, imaginary), noisy_spectrum, levels)
            # Adding the change, not replacing the spectrum, leaves what is right untouched by
            # rounding in the transform (TF32 keeps 10 bits).
            return degraded + self.fourier.synthesise(*change, samples=degraded.shape[-1])

    def limit(
        self, change: Spectrum, spectrum: Spectrum, noisy: Spectrum | None, levels: Levels
    ) -> Spectrum:
        """Return a change of the spectrum within this generator's limits.

        Args:
            change: real and imaginary, each ``(batch, frames, bins)``.
            spectrum: likewise, the denoised one.
            noisy: likewise, the denoiser's input.
            levels: of all frames.
        """
        if levels.removed is not None and noisy is not None:
            change = limit_change(change, levels.removed, noisy)
        if self.max_lift_db is None:
            return change
        lift = lift_of(self.max_lift_db)
        if self.limits_pauses:
            lift = falling_lift(self.max_lift_db, levels.speech, levels.trailing)
        return limit_lift(change, spectrum, levels.near, lift)


class NoisyPath(nn.Module):
    """What the noisy spectrum adds to the body's input, and the share of it in the output.

    Both are exactly zero where it is silent, and the share is zero before training.
    """

    def __init__(self, bins: int, width: int) -> None:
        super().__init__()
        # Without a bias, so that silence adds nothing. Magnitudes suffice: their excess over the
        # degraded ones says what was cut, and the phase comes with the share.
        self.embed = nn.Linear(bins, width, bias=False)
        self.share = nn.Linear(width, bins)
        nn.init.zeros_(self.share.weight)
        nn.init.zeros_(self.share.bias)

    def forward(self, real: Tensor, imaginary: Tensor, level: Tensor) -> Tensor:
        """Return ``(batch, frames, width)`` of a spectrum and :func:`trailing_level`."""
        with torch.autocast(real.device.type, enabled=False):
            magnitude = log_magnitude((real.square() + imaginary.square()) / level.square())
        embedded: Tensor = self.embed(magnitude)
        return embedded


class ConvNextBlock(nn.Module):
    """Depth-wise convolution over frames, then a two-layer network per frame (Liu et al. 2022)."""

    def __init__(self, shape: SpectralSize, causal: bool) -> None:
        super().__init__()
        width = shape.width
        self.past = KERNEL - 1 if causal else 0
        around = 0 if causal else KERNEL // 2
        self.depthwise = nn.Conv1d(width, width, KERNEL, padding=around, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, shape.hidden)
        self.contract = nn.Linear(shape.hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 1 / shape.blocks))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return ``(batch, width, frames)`` of the same."""
        padded = F.pad(hidden, (self.past, 0)) if self.past else hidden
        frames = self.norm(self.depthwise(padded).transpose(1, 2))
        # As one matrix, which spares each layer two views there and back.
        change = self.scale * self.contract(F.gelu(self.expand(frames.flatten(0, 1))))
        changed: Tensor = hidden + change.unflatten(0, frames.shape[:2]).transpose(1, 2)
        return changed


def spectral_change(real: Tensor, imaginary: Tensor, head: Tensor, local: Tensor) -> Spectrum:
    """Return the change of the spectrum, real and imaginary, each ``(batch, frames, bins)``.

    DF3 zeroes whole regions, where a gain finds nothing to raise; the additive term restores
    them. It is scaled by the magnitude around the bin, which makes it safe in silence.

    Args:
        real: the input's spectrum, ``(batch, frames, bins)``.
        imaginary: likewise.
        head: ``(batch, frames, 4 * bins)``: log-gain, rotation in radians, additive term.
        local: the magnitude around each bin, ``(batch, frames, bins)``.
    """
    log_gain, rotation, add_real, add_imaginary = head.chunk(4, dim=2)
    gain = torch.exp(MAX_LOG_GAIN * torch.tanh(log_gain / MAX_LOG_GAIN))
    along, across = gain * rotation.cos() - 1, gain * rotation.sin()
    return (
        along * real - across * imaginary + add_real * local,
        along * imaginary + across * real + add_imaginary * local,
    )


def spectral_features(real: Tensor, imaginary: Tensor, level: Tensor) -> Tensor:
    """Return what the network sees, ``(batch, frames, 3 * bins)``, about unit variance.

    Log magnitudes and the compressed complex spectrum, relative to a level ``(batch, frames, 1)``.
    """
    power = (real.square() + imaginary.square()) / level.square()
    factor = compression_factor(power, FEATURE_FLOOR) / level
    return torch.cat([log_magnitude(power) - CENTRE, real * factor, imaginary * factor], dim=2)


def log_magnitude(power: Tensor) -> Tensor:
    """Return log magnitudes, exactly 0 from silence up to the floor and about 3 at the level."""
    return torch.log(power.clamp(min=FEATURE_FLOOR**2) / FEATURE_FLOOR**2) / 6
