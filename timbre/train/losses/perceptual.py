"""How much worse speech sounds by the model of ITU-T P.862.2 (wide-band PESQ), differentiable.

The constants are the standard's; the course of the computation follows torch-pesq (L. Schmidt,
audiolabs, MIT). What differs from the standard: nothing is aligned in time, because pairs are; the
input filters are gains on its 32 ms frames; and a stretch of silence is not left out.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from timbre.audio import SAMPLE_RATE
from timbre.audio.spectra import Stft, bin_power

# 32 ms every 16 ms. The bins are 31.25 Hz apart, so that below 8 kHz they are those at 16 kHz.
N_FFT = 1536
# The standard's spectra: of samples at 16 kHz in a Hann window that peaks at 1.
RATE = 16000
WINDOW_ENERGY = 0.375 * N_FFT * (RATE / SAMPLE_RATE) ** 2

# fmt: off
# Per band of loudness: bins, width in Bark, power of the hearing threshold.
BINS = (
    1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2,
    3, 3, 3, 3, 4, 3, 4, 5, 4, 5, 6, 6, 7, 8, 9, 9, 12, 12, 15, 16, 18, 21, 25, 20,
)
BARK = (
    0.157344, 0.317994, 0.322441, 0.326934, 0.331474, 0.336061, 0.340697, 0.345381, 0.350114,
    0.354897, 0.359729, 0.364611, 0.369544, 0.374529, 0.379565, 0.384653, 0.389794, 0.394989,
    0.400236, 0.405538, 0.410894, 0.416306, 0.421773, 0.427297, 0.432877, 0.438514, 0.444209,
    0.449962, 0.455774, 0.461645, 0.467577, 0.473569, 0.479621, 0.485736, 0.491912, 0.498151,
    0.504454, 0.510819, 0.517250, 0.523745, 0.530308, 0.536934, 0.543629, 0.550390, 0.557220,
    0.564119, 0.571085, 0.578125, 0.585232,
)
THRESHOLD = (
    51286152.0, 2454709.5, 70794.59375, 4897.788574, 1174.897705, 389.045166, 104.71286, 45.70882,
    17.782795, 9.772372, 4.897789, 3.090296, 1.905461, 1.258925, 0.977237, 0.724436, 0.562341,
    0.457088, 0.389045, 0.331131, 0.295121, 0.269153, 0.25704, 0.251189, 0.251189, 0.251189,
    0.251189, 0.263027, 0.288403, 0.30903, 0.338844, 0.371535, 0.398107, 0.436516, 0.467735,
    0.489779, 0.501187, 0.501187, 0.512861, 0.524807, 0.524807, 0.524807, 0.512861, 0.47863,
    0.42658, 0.371535, 0.363078, 0.416869, 0.537032,
)
# What a band's power is multiplied with, for the whole bins that its true width is rounded to.
CORRECTION = (
    100.0, 99.999992, 100.0, 100.000008, 100.000008, 100.000015, 99.999992, 99.999969, 50.000027,
    100.0, 99.999969, 100.000015, 99.999947, 100.000061, 53.047077, 110.000046, 117.991989, 65.0,
    68.760147, 69.999931, 71.428818, 75.000038, 76.843384, 80.968781, 88.646126, 63.864388,
    68.15535, 72.547775, 75.584831, 58.379192, 80.950836, 64.135651, 54.384785, 73.821884,
    64.437073, 59.176456, 65.521278, 61.399822, 58.144047, 57.004543, 64.126297, 54.311001,
    61.114979, 55.077751, 56.849335, 55.628868, 53.137054, 54.985844, 79.546974,
)
# fmt: on
POWER_SCALE = 6.910853e-6
LOUDNESS_SCALE = 0.1866055
ZWICKER_POWER = 0.23

# All speech is brought to this mean power in the band that says how loud it is.
LISTENING_POWER = 1e7
LEVEL_BAND_HZ = (325.0, 3250.0)
LEVEL_CORRECTION = 1.04684
# A high-pass, second order at RATE: the wide-band input filter.
INPUT_FILTER = ((2.740826, -5.4816519, 2.740826), (1.0, -1.9444777, 0.94597794))
# Frames whose disturbances a sixth-power mean is taken over, half of them new.
STRETCH = 20
# What a MOS loses per unit of the disturbances.
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309
# Keeps roots of nothing from having an infinite slope.
TINY = 1e-6


class PerceptualLoss(nn.Module):
    """The MOS that speech loses by the model of wide-band PESQ, before its mapping to 1 to 4.6.

    0 for the clean side itself, about 1 for a PESQ of 3.9, 2 for 2.6 and 3 for 1.6: PESQ is
    ``0.999 + 4 / (1 + exp(3.8224 - 1.3669 * (4.5 - lost)))``. Gains do not matter: both sides are brought to one listening level.
    """

    bands: Tensor
    bark: Tensor
    threshold: Tensor
    exponent: Tensor
    response: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stft = Stft(N_FFT, N_FFT // 2)
        bark = torch.tensor(BARK)
        edges = [0, *torch.tensor(BINS).cumsum(0).tolist()]
        bands = torch.zeros(len(BINS), N_FFT // 2 + 1)
        for band, (first, end) in enumerate(pairwise(edges)):
            bands[band, first:end] = CORRECTION[band] * POWER_SCALE
        bands[:, 0] = 0.0  # a constant is not heard
        centre = bark.cumsum(0) - bark / 2
        exponent = (6 / (centre + 2)).clamp(1, 2) ** 0.15 * ZWICKER_POWER
        for name, value in {
            "bands": bands,
            "bark": bark[1:],
            "threshold": torch.tensor(THRESHOLD)[:, None],
            "exponent": exponent[:, None],
            "response": _input_filter(self.stft.frequencies_hz)[:, None],
        }.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, restored: Tensor, clean: Tensor) -> Tensor:
        """Return the MOS lost, ``(batch,)``; 0 where the clean side is silent.

        Args:
            restored: ``(batch, samples)`` at 48 kHz.
            clean: likewise, in time with it.
        """
        with torch.autocast(clean.device.type, enabled=False):
            estimate, reference = (self._powers(side.float()) for side in (restored, clean))
            estimate, reference = self._equalised(estimate, reference)
            symmetric, asymmetric = self._disturbances(estimate, reference)
            lost = SYMMETRIC * _over_time(symmetric) + ASYMMETRIC * _over_time(asymmetric)
            return torch.where(clean.any(dim=1), lost, 0.0)

    def _powers(self, waves: Tensor) -> Tensor:
        """Return the powers in bands ``(batch, bands, frames)`` at the listening level."""
        spectra = torch.fft.rfft(waves)
        frequency = torch.linspace(0, SAMPLE_RATE / 2, spectra.shape[1], device=waves.device)
        low_hz, high_hz = LEVEL_BAND_HZ
        within = bin_power(spectra) * ((frequency > low_hz) & (frequency < high_hz))
        samples = waves.shape[1]
        # By Parseval; the standard divides by more samples than there are.
        mean = 2 * within.sum(dim=1) / samples / (samples + 5120 * SAMPLE_RATE / RATE)
        gain = LISTENING_POWER * LEVEL_CORRECTION / mean.clamp(min=1e-12)
        power = bin_power(self.stft(waves)) * self.response * WINDOW_ENERGY
        banded: Tensor = (self.bands @ power) * gain[:, None, None]
        return banded

    def _equalised(self, estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Return both without what is heard as a mere difference of colour or of gain."""
        speech = self._audible(reference, 100.0)[:, None] >= 1e7
        means = [
            torch.where(speech & (side > 100 * self.threshold), side, 0.0).mean(dim=2)
            for side in (estimate, reference)
        ]
        colour = ((means[0] + 1000) / (means[1] + 1000)).clamp(0.01, 100.0)
        reference = reference * colour[:, :, None]
        ratio = (self._audible(reference) + 5e3) / (self._audible(estimate) + 5e3)
        ratio = torch.cat([ratio[:, :1], 0.2 * ratio[:, :-1] + 0.8 * ratio[:, 1:]], dim=1)
        return estimate * ratio.clamp(3e-4, 5.0)[:, None], reference

    def _disturbances(self, estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is heard of the difference, and of what is too much: ``(batch, frames)``."""
        of_estimate, of_reference = self._loudness(estimate), self._loudness(reference)
        difference = of_estimate - of_reference
        masked = 0.25 * torch.minimum(of_estimate, of_reference)
        difference = difference.sign() * (difference.abs() - masked).relu()
        excess = ((estimate + 50) / (reference + 50)) ** 1.2
        excess = torch.where(excess < 3, 0.0, excess.clamp(max=12))
        width = self.bark[:, None]
        # The lowest band is not heard.
        weighted = difference[:, 1:] * width
        square_mean = weighted.square().sum(dim=1) / width.sum()
        symmetric = (square_mean + TINY).sqrt() * width.sum()
        asymmetric = (weighted.abs() * excess[:, 1:]).sum(dim=1)
        # What is said softly counts for more.
        weight = ((self._audible(reference) + 1e5) / 1e7) ** 0.04
        return (symmetric / weight).clamp(max=45), (asymmetric / weight).clamp(max=45)

    def _audible(self, power: Tensor, factor: float = 1.0) -> Tensor:
        """Return the power that exceeds the threshold by ``factor``, ``(batch, frames)``."""
        audible = torch.where(power > factor * self.threshold, power, 0.0)
        return audible[:, 1:].sum(dim=1)

    def _loudness(self, power: Tensor) -> Tensor:
        """Return Zwicker's loudness, 0 up to the threshold."""
        above = 0.5 + 0.5 * (power / self.threshold).clamp(min=1)
        loudness: Tensor = (2 * self.threshold) ** self.exponent * (above**self.exponent - 1)
        return LOUDNESS_SCALE * loudness


def _input_filter(frequency: Tensor) -> Tensor:
    """Return the input filter's gain of power at frequencies below RATE / 2."""
    turn = torch.exp(torch.tensor(-2j * math.pi / RATE) * frequency)
    zeros, poles = (sum(c * turn**n for n, c in enumerate(side)) for side in INPUT_FILTER)
    return bin_power(torch.as_tensor(zeros / poles))


def _over_time(disturbance: Tensor) -> Tensor:
    """Return one figure ``(batch,)`` of ``(batch, frames)``, in which bad stretches weigh most."""
    size = min(STRETCH, disturbance.shape[1])
    stretches = disturbance.unfold(1, size, STRETCH // 2)
    peaks = ((stretches.clamp(min=TINY) ** 6).mean(dim=2)) ** (1 / 6)
    return (peaks.square().mean(dim=1)).sqrt()
