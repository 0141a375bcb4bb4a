"""Waveform to DeepFilterNet3's spectrum and features, and spectrum back to waveform.

A batched restatement of ``libdf`` 0.5.6 (the Rust half of the official package) in plain torch. All
of libdf's choices that matter are here: the Vorbis window, an FFT scaled by 1 / N_FFT forwards,
ERB bands of at least two bins, and running means that start from fixed values.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from timbre.audio import HOP, SAMPLE_RATE

N_FFT = 960
BINS = N_FFT // 2 + 1
ERB_BANDS = 32
MIN_BINS_PER_BAND = 2
FILTERED_BINS = 96  # the lowest bins get a deep filter, those above only a gain per ERB band

# The running means' decay per frame, and what is left for the new frame, in float32 like libdf.
DECAY = float(np.float32(0.99))
INNOVATION = float(np.float32(1) - np.float32(0.99))


class Frontend(nn.Module):
    """The fixed transforms around the network; holds only constants."""

    window: Tensor
    band_means: Tensor
    start_means: Tensor

    def __init__(self) -> None:
        super().__init__()
        membership = band_membership()
        start_levels = torch.linspace(-60.0, -90.0, ERB_BANDS)
        start_magnitudes = torch.linspace(1e-3, 1e-4, FILTERED_BINS)
        for name, constant in {
            "window": vorbis_window(N_FFT),
            "band_means": membership / membership.sum(dim=0),
            "start_means": torch.cat((start_levels, start_magnitudes)),
        }.items():
            self.register_buffer(name, constant, persistent=False)

    def analyse(self, waveform: Tensor) -> Tensor:
        """Return the spectrum ``(batch, samples // HOP, BINS)``, complex, of waveform ``(batch, samples)``.

        Frame t sees hops t - 1 and t; before the first sample there are zeros. A last, unfinished
        hop is left out.
        """
        whole_hops = waveform[:, : waveform.shape[1] // HOP * HOP]
        frames = F.pad(whole_hops, (N_FFT - HOP, 0)).unfold(1, N_FFT, HOP)
        spectrum: Tensor = torch.fft.rfft(frames * self.window, norm="forward")
        return spectrum

    def features(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network looks at: ERB levels ``(batch, frames, 32)`` and complex low bins.

        The levels are dB minus their running mean, over 40; the low bins (batch, frames, 96, 2:
        real, imaginary) are divided by the square root of their running mean magnitude.
        """
        levels, low, _ = self.continued_features(spectrum, self.start_means)
        return levels, low

    def continued_features(self, spectrum: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two features of a later part of a signal, and the running means after it.

        ``before`` ``(batch, 128)`` or ``(128,)``: the running means after what came earlier.
        """
        power = spectrum.real.square() + spectrum.imag.square()
        levels = 10 * torch.log10(power @ self.band_means + 1e-10)
        low = spectrum[..., :FILTERED_BINS]
        means = running_means(torch.cat((levels, low.abs()), dim=2), before)
        # After minutes of digital silence the mean magnitude is 0 too.
        size = means[..., ERB_BANDS:].sqrt().clamp_min(1e-12)
        scaled = torch.view_as_real(low) / size[..., None]
        return (levels - means[..., :ERB_BANDS]) / 40, scaled, means[:, -1]

    def synthesise(self, spectrum: Tensor) -> Tensor:
        """Return the waveform ``(batch, frames · HOP)``; overwrites the edges of its spectrum.

        Late by N_FFT - HOP samples against the waveform that went into ``analyse``.
        """
        # libdf's inverse ignores these imaginary parts and so does MKL, but cuFFT does not.
        torch.view_as_real(spectrum)[..., [0, -1], 1] = 0
        frames: Tensor = torch.fft.irfft(spectrum, N_FFT, norm="forward").mul_(self.window)
        waveform = frames[..., :HOP]
        waveform[:, 1:] += frames[:, :-1, HOP:]
        return waveform.flatten(1)


def running_means(values: Tensor, start: Tensor) -> Tensor:
    """Return m[t] = DECAY · m[t-1] + (1 - DECAY) · values[t] over dim 1 of ``(batch, frames, bands)``.

    ``start`` (bands,) or (batch, bands) is m[-1]. Frame by frame in float32 because libdf does so: its rounding errors
    add up to 1e-4 dB, and on nearly clean input the network turns that into a difference at -80 dB.
    A blocked scan is 5 times as fast, but this loop takes 1 % of the time of the whole.
    """
    mean = start
    means: list[Tensor] = []
    for new in (values * INNOVATION).unbind(1):
        mean = mean * DECAY + new
        means.append(mean)
    return torch.stack(means, dim=1)


def erb_band_widths() -> list[int]:
    """Return the number of FFT bins in each of the ERB_BANDS bands, as libdf counts them in float32."""
    one, scale, corner = np.float32(1), np.float32(9.265), np.float32(24.7)
    highest = scale * np.log1p(np.float32(SAMPLE_RATE // 2) / (corner * scale))
    step = highest / np.float32(ERB_BANDS)
    bin_hz = np.float32(SAMPLE_RATE) / np.float32(N_FFT)
    widths: list[int] = []
    previous_edge = loan = 0
    for band in range(1, ERB_BANDS + 1):
        edge_hz = corner * scale * (np.exp(np.float32(band) * step / scale) - one)
        edge = math.floor(float(edge_hz / bin_hz) + 0.5)
        width = edge - previous_edge - loan
        # A band that is too narrow borrows bins from the next one.
        loan = max(MIN_BINS_PER_BAND - width, 0)
        widths.append(width + loan)
        previous_edge = edge
    widths[-1] += BINS - sum(widths)  # the Nyquist bin belongs to the last band
    return widths


def band_membership() -> Tensor:
    """Return (BINS, ERB_BANDS) float32: 1 where a bin lies in a band, else 0."""
    band_of_bin = torch.repeat_interleave(torch.tensor(erb_band_widths()))
    return F.one_hot(band_of_bin).float()


def vorbis_window(length: int) -> Tensor:
    """Return the Vorbis codec's power-complementary window, ``(length,)`` float32."""
    phase = math.pi * (torch.arange(length, dtype=torch.float64) + 0.5) / length
    return torch.sin(0.5 * math.pi * torch.sin(phase).square()).float()
