"""Spectra, mel bands and the bins that count: one definition for models, losses and metrics.

Windows have unit energy, so that white noise of unit variance has a mean power of 1 in every bin
whatever the window's length: thresholds mean the same at every resolution.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchaudio.functional import melscale_fbanks

from timbre.audio.waveform import SAMPLE_RATE

Device = torch.device | str | None

# Speech levels are compressed by this power, about that of loudness.
COMPRESSION = 0.3
# Bins within this many dB of a clip's highest bin carry the voice; those below are silent.
VOICE_RANGE_DB = 60.0
# Window lengths with their numbers of mel bands, for distances; hops are a quarter of the window.
RESOLUTIONS = ((2048, 128), (1024, 80), (512, 40), (256, 20))
# Where log-mel sees silence, relative to a voice at unit level; about 85 dB below its highest bin.
MEL_FLOOR = 1e-3
# Signals quieter than this (-60 dBFS) are not raised to the level of the others.
QUIETEST = 1e-3


def sine_window(hop: int, dtype: torch.dtype = torch.float64, device: Device = None) -> Tensor:
    """Return the ``(2 * hop,)`` window whose squares, a hop apart, sum to 1.

    It is computed in ``dtype``: float32 and float64 round differently.
    """
    # Half a sample in, so that no sample of a frame has weight zero.
    places = torch.arange(2 * hop, device=device).to(dtype) + 0.5
    return torch.sin(places * (torch.pi / (2 * hop)))


def fast_length(samples: int) -> int:
    """Return the smallest length from ``samples`` on whose only factors are 2, 3 and 5.

    On such lengths a transform is up to 7 times as fast as on others (4 to 9 s, responses to 3 s).
    """
    best = 1 << (samples - 1).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << (-(-samples // odd) - 1).bit_length())
            odd *= 3
        fives *= 5
    return best


class Stft(nn.Module):
    """Complex spectra of waveforms of any length ≥ 1, centred, with zeros beyond both ends.

    In the precision of its input, but never below float32; autocast does not reach inside.
    """

    window: Tensor
    halves: Tensor
    frequencies_hz: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        window = torch.hann_window(n_fft, dtype=torch.float64)
        self.register_buffer("window", (window / window.norm()).float(), persistent=False)
        # What a bin is of the full spectrum's: the inner ones stand there twice.
        halves = torch.full((n_fft // 2 + 1,), 0.5)
        halves[:: n_fft // 2 if n_fft % 2 == 0 else n_fft] = 1.0
        self.register_buffer("halves", halves, persistent=False)
        frequencies_hz = torch.arange(n_fft // 2 + 1) * (SAMPLE_RATE / n_fft)
        self.register_buffer("frequencies_hz", frequencies_hz, persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        """Return ``(batch, n_fft // 2 + 1, samples // hop + 1)`` of ``(batch, samples)``."""
        return self.by_frame(waves).transpose(1, 2)

    def by_frame(self, waves: Tensor) -> Tensor:
        """Return the same as the transform leaves it, ``(batch, frames, bins)`` in one block."""
        with torch.autocast(waves.device.type, enabled=False):
            waves = waves.to(torch.promote_types(waves.dtype, torch.float32))
            spectra: Tensor = _Analysis.apply(waves, self)
            return spectra

    def gradient(self, of_spectra: Tensor, samples: int) -> Tensor:
        """Return the gradient ``(batch, samples)`` from that of what :meth:`by_frame` returns."""
        parts = torch.view_as_real(of_spectra.resolve_conj())
        weighted = torch.view_as_complex(parts * self.halves.to(parts.dtype)[:, None])
        frames = torch.fft.irfft(weighted, self.n_fft, norm="forward") * self.window.to(parts.dtype)
        before = self.n_fft // 2
        shape = [len(frames), samples + 2 * before]
        padded: Tensor = torch.ops.aten.unfold_backward(frames, shape, 1, self.n_fft, self.hop)
        return padded[:, before : before + samples]

    def counted(self, bandwidth_hz: Tensor) -> Tensor:
        """Return the bins within ``(batch,)`` bandwidths: bool ``(batch, bins, 1)``."""
        return self.frequencies_hz[None, :, None] <= bandwidth_hz[:, None, None]


class _Analysis(torch.autograd.Function):
    """The transform of frames, whose gradient takes one real transform back.

    PyTorch's own takes a complex one of twice the size, and a dozen operators around it.
    """

    @staticmethod
    def forward(context: Any, waves: Tensor, stft: Stft) -> Tensor:
        context.stft, context.samples = stft, waves.shape[1]
        padded = F.pad(waves, (stft.n_fft // 2,) * 2)
        frames = padded.unfold(-1, stft.n_fft, stft.hop) * stft.window.to(waves.dtype)
        spectra: Tensor = torch.fft.rfft(frames)
        return spectra

    @staticmethod
    @once_differentiable
    def backward(context: Any, of_spectra: Tensor) -> tuple[Tensor, None]:
        return context.stft.gradient(of_spectra, context.samples), None


class FramedFourier(nn.Module):
    """Spectra as plain matrix products, and back: the generators' transform, exportable to ONNX.

    Square-root Hann (sine) windows of ``2 * hop`` samples at every ``hop``: synthesis undoes
    analysis exactly. Frame ``t`` covers the samples ``hop * (t - 1)`` to ``hop * (t + 1) - 1``.
    A product with the bases is as fast as an FFT here: 0.2 GMAC per second of sound for 960/480.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop, self.bins = hop, hop + 1
        n_fft = 2 * hop
        window = sine_window(hop)
        angles = torch.arange(n_fft)[:, None] * torch.arange(self.bins) % n_fft
        turns = angles.double() * (2 * torch.pi / n_fft)
        bases = torch.cat([turns.cos(), -turns.sin()], dim=1) * window[:, None] / hop**0.5
        # Every bin but the first and the last stands for two of the full spectrum.
        weights = torch.full((self.bins,), 2.0, dtype=torch.float64)
        weights[0] = weights[-1] = 1.0
        inverse = bases.T * weights.repeat(2)[:, None] / 2
        self.register_buffer("analysis", bases.float(), persistent=False)
        self.register_buffer("synthesis", inverse.float(), persistent=False)

    def analyse(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary parts ``(batch, frames, bins)`` of ``(batch, 1, samples)``.

        There are ``ceil(samples / hop) + 1`` frames; zeros lie beyond both ends.
        """
        samples = waves.shape[-1]
        padded = F.pad(waves[:, 0], (self.hop, self.hop + -samples % self.hop))
        blocks = padded.reshape(padded.shape[0], -1, self.hop)
        frames = torch.cat([blocks[:, :-1], blocks[:, 1:]], dim=2)
        real, imaginary = (frames @ self.analysis).chunk(2, dim=2)
        return real, imaginary

    def synthesise(self, real: Tensor, imaginary: Tensor, samples: int) -> Tensor:
        """Return the waveforms ``(batch, 1, samples)`` of spectra ``(batch, frames, bins)``."""
        frames = torch.cat([real, imaginary], dim=2) @ self.synthesis
        first, second = frames.chunk(2, dim=2)
        waves = (second[:, :-1] + first[:, 1:]).flatten(1)
        return waves[:, None, :samples]


class LogMel(nn.Module):
    """Log of the mean magnitude in mel bands; ``upper_hz`` holds where each band ends."""

    filters: Tensor
    upper_hz: Tensor

    def __init__(self, n_fft: int, bands: int) -> None:
        super().__init__()
        bins = n_fft // 2 + 1
        filters: Tensor = melscale_fbanks(
            bins, 0.0, SAMPLE_RATE / 2, bands, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        frequencies_hz = torch.arange(bins) * (SAMPLE_RATE / n_fft)
        upper_hz = torch.where(filters > 0, frequencies_hz[:, None], 0.0).amax(dim=0)
        # Slaney's filters have unit area over Hz: by the bin's width, over bins.
        self.register_buffer("filters", filters.T * (SAMPLE_RATE / n_fft), persistent=False)
        self.register_buffer("upper_hz", upper_hz, persistent=False)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Return nepers ``(batch, bands, frames)`` of magnitudes ``(batch, bins, frames)``."""
        with torch.autocast(magnitudes.device.type, enabled=False):
            return torch.log(self.filters.to(magnitudes.dtype) @ magnitudes + MEL_FLOOR)

    def counted(self, bandwidth_hz: Tensor) -> Tensor:
        """Return the bands wholly within ``(batch,)`` bandwidths: bool ``(batch, bands, 1)``."""
        return (self.upper_hz <= bandwidth_hz[:, None])[:, :, None]


def pair_gain(clean: Tensor) -> Tensor:
    """Return the gain ``(..., 1)`` that brings clean waveforms ``(..., samples)`` to unit level.

    Both sides of a pair take it before losses, metrics and discriminators: a gain of its own for
    each would hide what the restored side's level has wrong.
    """
    level = clean.square().mean(dim=-1, keepdim=True).sqrt()
    return 1 / level.clamp(min=QUIETEST)


def compression_factor(power: Tensor, floor: float) -> Tensor:
    """Return what compresses a bin of this power: ``X * factor`` has magnitude ``|X| ** 0.3``.

    Args:
        power: squared magnitudes of any shape.
        floor: magnitude below which the factor is constant, so that gradients are bounded by
            ``floor ** -0.7``.
    """
    # Clamped, not added to: an ONNX optimizer drops added constants below 1e-8 as zeros.
    return power.clamp(min=floor**2) ** ((COMPRESSION - 1) / 2)


def compressed(parts: Tensor, floor: float) -> Tensor:
    """Return real and imaginary parts ``(…, 2)`` of a spectrum times its :func:`compression_factor`."""
    result: Tensor = _Compression.apply(parts, floor)
    return result


class _Compression(torch.autograd.Function):
    """A compressed spectrum, and its gradient by few operators."""

    @staticmethod
    def forward(context: Any, parts: Tensor, floor: float) -> Tensor:
        real, imaginary = parts.unbind(-1)
        power = torch.addcmul(real.square(), imaginary, imaginary)
        factor = compression_factor(power, floor)
        context.save_for_backward(parts, power, factor)
        context.floor = floor
        return parts * factor[..., None]

    @staticmethod
    @once_differentiable
    def backward(context: Any, of_compressed: Tensor) -> tuple[Tensor, None]:
        parts, power, factor = context.saved_tensors
        slope = factor / power.clamp(min=context.floor**2) * (COMPRESSION - 1)
        slope = slope * (power >= context.floor**2) * (parts * of_compressed).sum(-1)
        return torch.addcmul(of_compressed * factor[..., None], parts, slope[..., None]), None


def active_bins(power: Tensor, counted: Tensor) -> Tensor:
    """Return which bins hold a clip's sound: those within 60 dB of its highest counted bin.

    Args:
        power: ``(batch, bins, frames)``, of the clean side.
        counted: bool ``(batch, bins, 1)``; bins outside are never active and never the highest.
    """
    peak = power.masked_fill(~counted, 0.0).amax(dim=(1, 2), keepdim=True)
    return counted & (power > peak * 10 ** (-VOICE_RANGE_DB / 10))


def bin_power(spectrum: Tensor) -> Tensor:
    """Return the squared magnitudes of a complex tensor; its gradient at zero is zero, not NaN."""
    return spectrum.real.square() + spectrum.imag.square()
