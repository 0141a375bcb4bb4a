"""Discriminators that tell clean from restored speech, over periods and over spectra.

Multi-period as in HiFi-GAN (Kong et al. 2020), at a quarter of its width; multi-band complex STFT
as in the Descript Audio Codec (Kumar et al. 2023), on compressed spectra, so that the highs, 40 dB
below the lows, are seen. They judge waveforms at the level they come in: give both sides of a pair
the one gain of :func:`timbre.audio.spectra.pair_gain`, never each its own.
"""

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from timbre.audio.spectra import Stft, bin_power, compression_factor
from timbre.config import STRICT

SLOPE = 0.1
# Bins below -40 dB of a voice at unit level are not raised further.
FLOOR = 1e-2
BAND_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


class Judgement(NamedTuple):
    """What one discriminator says of a batch, and the activations that led to it."""

    logits: Tensor
    features: list[Tensor]


@dataclass(config=STRICT)
class DiscriminatorConfig:
    """How much discriminator: ``light`` (0.16 M parameters) or ``full`` (4.0 M)."""

    preset: Literal["light", "full"] = "light"


class Preset(NamedTuple):
    """Sizes of the discriminators of one preset."""

    periods: tuple[int, ...]
    period_channels: tuple[int, ...]
    # Inharmonic to each other and to the generators' hop of 480: common multiples leave stripes.
    n_ffts: tuple[int, ...]
    spectral_channels: int
    frames_per_window: int


PRESETS = {
    "light": Preset((2, 3, 5, 7, 11), (4, 16, 32, 64), (2296, 1418, 542), 8, 2),
    "full": Preset((2, 3, 5, 7, 11), (8, 32, 128, 256, 256), (2296, 1418, 542), 32, 4),
}


def build_discriminator(config: DiscriminatorConfig) -> "Discriminators":
    """Return fresh discriminators of the configured preset."""
    return Discriminators(PRESETS[config.preset])


class Discriminators(nn.Module):
    """All discriminators of a preset as one module."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.periods = nn.ModuleList(
            PeriodDiscriminator(period, preset.period_channels) for period in preset.periods
        )
        self.spectra = nn.ModuleList(
            SpectralDiscriminator(
                n_fft, n_fft // preset.frames_per_window, preset.spectral_channels
            )
            for n_fft in preset.n_ffts
        )

    def forward(self, waves: Tensor) -> list[Judgement]:
        """Return one judgement per discriminator of ``(batch, 1, samples)``, samples ≥ 1."""
        return [discriminator(waves) for discriminator in (*self.periods, *self.spectra)]


class PeriodDiscriminator(nn.Module):
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

    def forward(self, waves: Tensor) -> Judgement:
        """Return logits ``(batch, 1, time, period)`` of ``(batch, 1, samples)``."""
        padded = F.pad(waves, (0, -waves.shape[-1] % self.period))
        hidden = padded.reshape(waves.shape[0], 1, -1, self.period)
        features = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), SLOPE)
            features.append(hidden)
        return Judgement(self.last(hidden), features)


class SpectralDiscriminator(nn.Module):
    """Looks at the complex spectrum in five bands, each with its own weights."""

    def __init__(self, n_fft: int, hop: int, channels: int) -> None:
        super().__init__()
        self.stft = Stft(n_fft, hop)
        bins = n_fft // 2 + 1
        edges = [round(edge * bins) for edge in BAND_EDGES]
        self.widths = [high - low for low, high in pairwise(edges)]
        self.bands = nn.ModuleList(BandLayers(channels) for _ in self.widths)
        self.last = weight_norm(nn.Conv2d(channels, 1, (3, 3), padding=(1, 1)))

    def forward(self, waves: Tensor) -> Judgement:
        """Return logits ``(batch, 1, frames, bins / 8)`` of ``(batch, 1, samples)``."""
        with torch.autocast(waves.device.type, enabled=False):
            spectrum = self.stft(waves[:, 0]).transpose(1, 2)
            compressed = spectrum * compression_factor(bin_power(spectrum), FLOOR)
            planes = torch.stack([compressed.real, compressed.imag], dim=1)
        features: list[Tensor] = []
        tops: list[Tensor] = []
        for plane, band in zip(torch.split(planes, self.widths, dim=3), self.bands, strict=True):
            activations: list[Tensor] = band(plane)
            features += activations
            tops.append(activations[-1])
        return Judgement(self.last(torch.cat(tops, dim=3)), features)


class BandLayers(nn.Module):
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
