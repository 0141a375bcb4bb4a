"""DeepFilterNet3's spectrum, features and synthesis for one frame, in fixed places of memory."""

import numpy as np
import torch

from timbre.audio import HOP
from timbre.denoise.frontend import (
    BINS,
    DECAY,
    ERB_BANDS,
    FILTERED_BINS,
    INNOVATION,
    N_FFT,
    erb_band_widths,
)
from timbre.denoise.network import FEATURE_LOOKAHEAD, FILTER_ORDER
from timbre.restore.live.levels import LiveSpectrum
from timbre.restore.live.products import Array


class FrontHop:
    """One stream's analysis and synthesis.

    levels, low: ``(32,)`` and ``(96, 2)``, the features of the last hop.
    """

    def __init__(self, window: Array, start_means: Array) -> None:
        widths = np.array(erb_band_widths())
        self._starts, self._widths = np.cumsum(widths) - widths, widths
        bands = np.repeat(np.arange(ERB_BANDS), widths)
        self._high_bands = bands[FILTERED_BINS:]
        self._window, self._means = window, start_means.copy()
        self._frame, self._overlap = np.zeros(N_FFT, np.float32), np.zeros(HOP, np.float32)
        self._windowed, self._wave = torch.zeros(N_FFT), torch.zeros(N_FFT)
        self._spectra: LiveSpectrum = np.zeros((FILTER_ORDER, BINS), np.complex64)
        self._newest = torch.from_numpy(self._spectra)[-1]
        self._enhanced: LiveSpectrum = np.zeros(BINS, np.complex64)
        self._to_wave = torch.from_numpy(self._enhanced)
        self.levels: Array = np.zeros(ERB_BANDS, np.float32)
        self.low: Array = np.zeros((FILTERED_BINS, 2), np.float32)

    def analyse(self, hop: Array) -> None:
        """Take the next ``(480,)`` and compute its features."""
        frame, spectra = self._frame, self._spectra
        frame[:HOP] = frame[HOP:]
        frame[HOP:] = hop
        np.multiply(frame, self._window, out=self._windowed.numpy())
        spectra[:-1] = spectra[1:]
        torch.fft.rfft(self._windowed, norm="forward", out=self._newest)
        spectrum = spectra[-1]
        power = spectrum.real * spectrum.real + spectrum.imag * spectrum.imag
        values = np.empty_like(self._means)
        levels, magnitudes = values[:ERB_BANDS], values[ERB_BANDS:]
        # In float64, as sums one by one round worse than the product with `band_means`.
        sums = np.add.reduceat(power.astype(np.float64), self._starts)
        levels[:] = 10 * np.log10(sums / self._widths + 1e-10)
        np.sqrt(power[:FILTERED_BINS], out=magnitudes)
        means = self._means
        # Operation by operation as in `running_means`, for its rounding.
        means *= np.float32(DECAY)
        means += values * np.float32(INNOVATION)
        np.subtract(levels, means[:ERB_BANDS], out=self.levels)
        self.levels /= 40
        size = np.maximum(np.sqrt(means[ERB_BANDS:]), np.float32(1e-12))
        low = spectrum[:FILTERED_BINS].view(np.float32).reshape(FILTERED_BINS, 2)
        np.divide(low, size[:, None], out=self.low)

    def synthesise(self, gains: Array, taps: LiveSpectrum) -> Array:
        """Return the enhanced ``(480,)``, late by 3 hops, from gains ``(32,)`` and taps ``(5, 96)``."""
        spectra, enhanced = self._spectra, self._enhanced
        np.add.reduce(spectra[:, :FILTERED_BINS] * taps, axis=0, out=enhanced[:FILTERED_BINS])
        # The frame that the taps are centred on.
        high = spectra[FEATURE_LOOKAHEAD, FILTERED_BINS:]
        np.multiply(high, gains[self._high_bands], out=enhanced[FILTERED_BINS:])
        torch.fft.irfft(self._to_wave, N_FFT, norm="forward", out=self._wave)
        wave = self._wave.numpy() * self._window
        denoised: Array = wave[:HOP] + self._overlap
        self._overlap = wave[HOP:]
        return denoised
