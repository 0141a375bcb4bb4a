"""Discriminators and losses as one would write them down: each layer, window and side for itself.

What timbre computes by fewer operators is held against these, and so are its checkpoints' names. The
benchmark takes them for the structure of other trainers.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from timbre.audio.spectra import (
    COMPRESSION,
    LogMel,
    Stft,
    active_bins,
    bin_power,
    compression_factor,
)
from timbre.models.discriminators import BAND_EDGES, FLOOR, SLOPE, Preset
from timbre.train.losses.spectral_terms import COMPLEX_SHARE, SPECTRUM_FLOOR


class PlainJudgement(NamedTuple):
    """What one discriminator says of a batch, and the activations that led to it."""

    logits: Tensor
    features: list[Tensor]


class PlainDiscriminators(nn.Module):
    """All discriminators of a preset as one module."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.periods = nn.ModuleList(
            PlainPeriod(period, preset.period_channels) for period in preset.periods
        )
        self.spectra = nn.ModuleList(
            PlainSpectral(n_fft, n_fft // preset.frames_per_window, preset.spectral_channels)
            for n_fft in preset.n_ffts
        )

    def forward(self, waves: Tensor) -> list[PlainJudgement]:
        """Return one judgement per discriminator of ``(batch, 1, samples)``, samples ≥ 1."""
        return [discriminator(waves) for discriminator in (*self.periods, *self.spectra)]


class PlainPeriod(nn.Module):
    """Compares samples that lie one period apart."""

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        strides = [3] * (len(channels) - 1) + [1]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(before, after, (5, 1), (stride, 1), (2, 0)))
            for (before, after), stride in zip(pairwise((1, *channels)), strides, strict=True)
        )
        self.last = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waves: Tensor) -> PlainJudgement:
        """Return logits ``(batch, 1, time, period)`` of ``(batch, 1, samples)``."""
        longer = F.pad(waves, (0, -waves.shape[-1] % self.period))
        activations = longer.reshape(waves.shape[0], 1, -1, self.period)
        features = []
        for layer in self.layers:
            activations = F.leaky_relu(layer(activations), SLOPE)
            features.append(activations)
        return PlainJudgement(self.last(activations), features)


class PlainSpectral(nn.Module):
    """Looks at the complex spectrum in five bands, each with its own weights."""

    def __init__(self, n_fft: int, hop: int, channels: int) -> None:
        super().__init__()
        self.stft = Stft(n_fft, hop)
        bins = n_fft // 2 + 1
        edges = [round(edge * bins) for edge in BAND_EDGES]
        self.widths = [high - low for low, high in pairwise(edges)]
        self.bands = nn.ModuleList(PlainBand(channels) for _ in self.widths)
        self.last = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, waves: Tensor) -> PlainJudgement:
        """Return logits ``(batch, 1, frames, bins / 8)`` of ``(batch, 1, samples)``."""
        with torch.autocast(waves.device.type, enabled=False):
            spectrum = self.stft(waves[:, 0]).transpose(1, 2)
            small = spectrum * compression_factor(bin_power(spectrum), FLOOR)
            planes = torch.stack([small.real, small.imag], dim=1)
        features: list[Tensor] = []
        tops: list[Tensor] = []
        for plane, band in zip(torch.split(planes, self.widths, dim=3), self.bands, strict=True):
            activations: list[Tensor] = band(plane)
            features += activations
            tops.append(activations[-1])
        return PlainJudgement(self.last(torch.cat(tops, dim=3)), features)


class PlainBand(nn.Module):
    """Convolutions that keep the frames of one band and divide its bins by eight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        halving = [nn.Conv2d(channels, channels, (3, 9), (1, 2), (1, 4)) for _ in range(3)]
        self.layers = nn.ModuleList(
            weight_norm(layer)
            for layer in (
                nn.Conv2d(2, channels, (3, 9), padding=(1, 4)),
                *halving,
                nn.Conv2d(channels, channels, (3, 3), padding=(1, 1)),
            )
        )

    def forward(self, plane: Tensor) -> list[Tensor]:
        """Return every layer's activations of ``(batch, 2, frames, bins)``, the last at bins / 8."""
        activations = [plane]
        for layer in self.layers:
            activations.append(F.leaky_relu(layer(activations[-1]), SLOPE))
        return activations[1:]


def discriminator_loss(real: list[PlainJudgement], fake: list[PlainJudgement]) -> Tensor:
    """Return the least-squares loss (Mao et al. 2017): 0 when real is 1 and fake is 0."""
    losses = [
        (1 - r.logits.float()).square().mean() + f.logits.float().square().mean()
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_loss(fake: list[PlainJudgement]) -> Tensor:
    """Return the generator's least-squares loss: 0 when every fake is taken for real."""
    return torch.stack([(1 - f.logits.float()).square().mean() for f in fake]).mean()


def feature_matching_loss(real: list[PlainJudgement], fake: list[PlainJudgement]) -> Tensor:
    """Return the L1 distance between activations, each layer relative to the real ones' mean size.

    No discriminator can make it small by shrinking its activations. The real side gets no gradient.
    """
    losses = []
    for r, f in zip(real, fake, strict=True):
        for real_features, fake_features in zip(r.features, f.features, strict=True):
            target = real_features.detach().float()
            size = target.abs().mean().clamp(min=torch.finfo(torch.float32).tiny)
            losses.append((fake_features.float() - target).abs().mean() / size)
    return torch.stack(losses).mean()


def discriminator_accuracy(real: list[PlainJudgement], fake: list[PlainJudgement]) -> Tensor:
    """Return the share of right logits: real above 1/2, fake below; the mean over discriminators."""
    shares = [
        ((r.logits > 0.5).float().mean() + (f.logits < 0.5).float().mean()) / 2
        for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(shares).mean()


class PlainResolution(nn.Module):
    """The spectral terms at one window length; each spectrum is computed once for all of them."""

    def __init__(self, n_fft: int, bands: int) -> None:
        super().__init__()
        self.stft = Stft(n_fft, n_fft // 4)
        self.mel = LogMel(n_fft, bands)

    def forward(self, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> dict[str, Tensor]:
        """Return the terms of ``(batch, samples)`` at unit level."""
        restored_spectrum, clean_spectrum = self.stft(restored), self.stft(clean)
        restored_power, clean_power = bin_power(restored_spectrum), bin_power(clean_spectrum)
        mask = self.stft.counted(bandwidth_hz)
        silent = mask & ~active_bins(clean_power, mask)

        restored_magnitude = (restored_power + SPECTRUM_FLOOR**2).sqrt()
        clean_magnitude = (clean_power + SPECTRUM_FLOOR**2).sqrt()
        excess = restored_magnitude**COMPRESSION - clean_magnitude**COMPRESSION
        restored_factor = compression_factor(restored_power, SPECTRUM_FLOOR)
        clean_factor = compression_factor(clean_power, SPECTRUM_FLOOR)
        difference = restored_spectrum * restored_factor - clean_spectrum * clean_factor
        distance = (bin_power(difference) + SPECTRUM_FLOOR**2).sqrt() - SPECTRUM_FLOOR

        log_ratio = self.mel(restored_magnitude) - self.mel(clean_magnitude)
        return {
            "mel": mean_over(log_ratio.abs(), self.mel.counted(bandwidth_hz)),
            "spectrum": mean_over(excess.abs().lerp(distance, COMPLEX_SHARE), mask),
            "silence": mean_over(excess.relu(), silent),
        }


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over pairs of the means over counted entries; no entry counts as zero.

    Args:
        values: ``(batch, bins, frames)``.
        counted: bool, broadcast to that.
    """
    mask = mask.expand_as(values)
    totals = values.masked_fill(~mask, 0.0).sum(dim=(1, 2))
    return (totals / mask.sum(dim=(1, 2)).clamp(min=1)).mean()
