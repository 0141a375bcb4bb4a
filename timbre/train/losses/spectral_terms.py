"""The spectral terms of the reconstruction loss, over all window lengths at once.

What is done to each bin does not depend on its window. So the spectra of all windows lie on end in one
tensor, and one operator does for all of them. The gradient is written out, for the same reason: a
step's time on a GPU is the number of its kernels.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from timbre.audio.spectra import (
    COMPRESSION,
    MEL_FLOOR,
    RESOLUTIONS,
    VOICE_RANGE_DB,
    LogMel,
    Stft,
)
from timbre.train.parts import RECONSTRUCTION, part

# Relative to a voice at unit level: where compression ends, which bounds the gradients.
SPECTRUM_FLOOR = 1e-3
# Mel bands of each window length.
BANDS = dict(RESOLUTIONS)
# Share of the complex part in the spectrum term: it holds the phase, but alone it mutes bins whose
# phase cannot be known.
COMPLEX_SHARE = 0.3
NAMES = ("mel", "spectrum", "silence")


class SpectralTerms(nn.Module):
    """Mel, spectrum and silence, each a mean over a pair's counted entries, windows, then pairs."""

    def __init__(self, resolutions: tuple[int, ...]) -> None:
        super().__init__()
        stfts = [Stft(n_fft, n_fft // 4) for n_fft in resolutions]
        mels = [LogMel(n_fft, BANDS[n_fft]) for n_fft in resolutions]
        self.stfts, self.mels = nn.ModuleList(stfts), nn.ModuleList(mels)
        self.bins = _Entries([stft.frequencies_hz for stft in stfts])
        self.bands = _Entries([mel.upper_hz for mel in mels])

    def forward(self, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor) -> dict[str, Tensor]:
        """Return the terms of ``(batch, samples)`` at unit level; restored alone gets a gradient."""
        terms = _Terms.apply(restored, clean, bandwidth_hz, self)
        return dict(zip(NAMES, terms, strict=True))


class _Entries(nn.Module):
    """The bins or bands of all windows beside each other, and which window each is of."""

    upper_hz: Tensor
    windows: Tensor

    def __init__(self, upper_hz: list[Tensor]) -> None:
        super().__init__()
        self.counts = [len(own) for own in upper_hz]
        windows = torch.eye(len(upper_hz)).repeat_interleave(torch.tensor(self.counts), dim=1)
        self.register_buffer("upper_hz", torch.cat(upper_hz), persistent=False)
        self.register_buffer("windows", windows, persistent=False)

    def counted(self, bandwidth_hz: Tensor) -> Tensor:
        """Return 1 for the entries within ``(batch,)`` bandwidths, else 0: ``(batch, entries)``."""
        return (self.upper_hz <= bandwidth_hz[:, None]).float()

    def weights(self, counted: Tensor, frames: list[int]) -> Tensor:
        """Return each entry's weight in the term, on end like the entries of a batch."""
        counts = (counted @ self.windows.T).clamp(min=1)
        share = counted / (counts @ self.windows) / counts.numel()
        return self.on_end(share, frames, [1 / count for count in frames])

    def on_end(self, values: Tensor, frames: list[int], factors: list[float]) -> Tensor:
        """Return ``(batch, entries)`` for every frame, window after window: ``(all,)``."""
        parts = torch._foreach_mul(torch.split(values, self.counts, dim=1), factors)
        repeated = [
            part[:, None].expand(-1, count, -1).reshape(-1)
            for part, count in zip(parts, frames, strict=True)
        ]
        return torch.cat(repeated)


class _Kept(NamedTuple):
    """What the gradient is made of, all on end: of bins ``(all,)``, spectra ``(all, 2)``."""

    restored: Tensor
    difference: Tensor
    of_excess: Tensor
    of_silence: Tensor
    of_difference: Tensor
    compressed_slope: Tensor
    factor: Tensor
    factor_slope: Tensor
    magnitude: Tensor
    of_mel: Tensor


class _Terms(torch.autograd.Function):
    """The terms and their gradient with respect to the restored waveforms."""

    @staticmethod
    def forward(
        context: Any, restored: Tensor, clean: Tensor, bandwidth_hz: Tensor, module: SpectralTerms
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch = len(restored)
        # One transform for both sides; the graph is the restored side's alone, by the gradient below.
        both = torch.cat([restored, clean])
        spectra: list[Tensor] = [stft.by_frame(both) for stft in cast(list[Stft], module.stfts)]
        frames = [spectrum.shape[1] for spectrum in spectra]
        sides = [
            side.flatten()
            for spectrum in zip(*(s.chunk(2) for s in spectra), strict=True)
            for side in spectrum
        ]
        parts = torch.view_as_real(torch.cat(sides))
        real, imaginary = parts.unbind(1)
        power = torch.addcmul(real.square(), imaginary, imaginary)
        shifted = power + SPECTRUM_FLOOR**2
        magnitude = shifted.sqrt()
        compressed = shifted ** (COMPRESSION / 2)
        bounded = power.clamp(min=SPECTRUM_FLOOR**2)
        factor = bounded ** ((COMPRESSION - 1) / 2)
        scaled, scaled_clean = (parts * factor[:, None]).chunk(2)
        restored_compressed, clean_compressed = compressed.chunk(2)
        clean_power = power.chunk(2)[1]

        counted = module.bins.counted(bandwidth_hz)
        weight = module.bins.weights(counted, frames)
        silent = _silent_weights(clean_power, counted, module.bins, frames)
        excess = restored_compressed - clean_compressed
        difference = scaled - scaled_clean
        distance = (difference.square().sum(1) + SPECTRUM_FLOOR**2).sqrt()
        apart = excess.abs().lerp(distance - SPECTRUM_FLOOR, COMPLEX_SHARE)
        spectrum, silence = weight.dot(apart), silent.dot(excess.relu())

        band_weight = module.bands.weights(module.bands.counted(bandwidth_hz), frames)
        bands = _bands(magnitude, module, batch, frames) + MEL_FLOOR
        ratio = torch.sub(*bands.log().chunk(2))
        mel = band_weight.dot(ratio.abs())

        if context.needs_input_grad[0]:
            context.module, context.frames, context.shape = module, frames, restored.shape
            own = slice(len(excess))
            context.save_for_backward(
                *_Kept(
                    restored=parts[own],
                    difference=difference,
                    of_excess=weight * excess.sign() * (1 - COMPLEX_SHARE),
                    of_silence=silent * (excess > 0),
                    of_difference=weight / distance * COMPLEX_SHARE,
                    compressed_slope=restored_compressed / shifted[own] * COMPRESSION,
                    factor=factor[own],
                    factor_slope=torch.where(
                        power[own] >= SPECTRUM_FLOOR**2,
                        factor[own] / bounded[own] * (COMPRESSION - 1),
                        0.0,
                    ),
                    magnitude=magnitude[own],
                    of_mel=band_weight * ratio.sign() / bands.chunk(2)[0],
                )
            )
        return mel, spectrum, silence

    @staticmethod
    @once_differentiable
    def backward(
        context: Any, of_mel: Tensor, of_spectrum: Tensor, of_silence: Tensor
    ) -> tuple[Tensor, None, None, None]:
        with part(RECONSTRUCTION):
            return _gradient(context, of_mel, of_spectrum, of_silence), None, None, None


def _gradient(context: Any, of_mel: Tensor, of_spectrum: Tensor, of_silence: Tensor) -> Tensor:
    """Return the gradient with respect to the restored waveforms ``(batch, samples)``."""
    tensors, module, frames = _Kept(*context.saved_tensors), context.module, context.frames
    batch, samples = context.shape
    of_excess = torch.addcmul(tensors.of_excess * of_spectrum, tensors.of_silence, of_silence)
    sizes = [batch * own * count for own, count in zip(frames, module.bands.counts, strict=True)]
    of_bands = torch.split(tensors.of_mel * of_mel, sizes)
    of_magnitude = torch.cat(
        [
            (own.view(-1, mel.filters.shape[0]) @ mel.filters).flatten()
            for own, mel in zip(of_bands, module.mels, strict=True)
        ]
    )
    of_scaled = tensors.difference * (tensors.of_difference * of_spectrum)[:, None]
    along = (tensors.restored * of_scaled).sum(1)
    inward = torch.addcmul(of_magnitude / tensors.magnitude, of_excess, tensors.compressed_slope)
    inward = torch.addcmul(inward, along, tensors.factor_slope)
    gradient = torch.addcmul(of_scaled * tensors.factor[:, None], tensors.restored, inward[:, None])
    sizes = [batch * own * count for own, count in zip(frames, module.bins.counts, strict=True)]
    of_waves = [
        stft.gradient(torch.view_as_complex(own.view(batch, count, -1, 2)), samples)
        for stft, own, count in zip(module.stfts, torch.split(gradient, sizes), frames, strict=True)
    ]
    return torch.stack(of_waves).sum(0)


def _bands(magnitude: Tensor, module: SpectralTerms, batch: int, frames: list[int]) -> Tensor:
    """Return the mean magnitudes in mel bands, on end, of both sides' magnitudes ``(all,)``."""
    sizes = [batch * own * count for own, count in zip(frames, module.bins.counts, strict=True)]
    bands = [
        (own.view(-1, mel.filters.shape[1]) @ mel.filters.T).flatten()
        for own, mel in zip(torch.split(magnitude, sizes * 2), [*module.mels] * 2, strict=True)
    ]
    return torch.cat(bands)


def _silent_weights(power: Tensor, counted: Tensor, bins: _Entries, frames: list[int]) -> Tensor:
    """Return the weights ``(all,)`` of the counted bins that are silent by the clean power ``(all,)``."""
    batch = len(counted)
    sizes = [batch * own * count for own, count in zip(frames, bins.counts, strict=True)]
    peaks = [
        own.view(batch, count, -1).amax(dim=1)
        for own, count in zip(torch.split(power, sizes), frames, strict=True)
    ]
    highest = torch.cat(
        [
            own.amax(dim=1, keepdim=True)
            for own in torch.split(torch.cat(peaks, 1) * counted, bins.counts, dim=1)
        ],
        1,
    )
    most = (highest * 10 ** (-VOICE_RANGE_DB / 10)) @ bins.windows
    # Nothing is as quiet as what is not counted must be.
    limit = bins.on_end(torch.where(counted > 0, most, -1.0), frames, [1.0] * len(frames))
    silent = (power <= limit).float()
    parts = [own.view(batch, -1) for own in torch.split(silent, sizes)]
    totals = [own.sum(dim=1, keepdim=True) for own in parts]
    torch._foreach_clamp_min_(totals, 1.0)
    torch._foreach_mul_(totals, float(batch * len(frames)))
    torch._foreach_div_(parts, totals)
    return silent
