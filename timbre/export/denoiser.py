"""DeepFilterNet3 in real arithmetic, without loops: what an ONNX file can hold."""

import math
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from timbre.audio import HOP
from timbre.denoise.by_hop import DenoiserByHop, DenoiserState
from timbre.denoise.frontend import (
    DECAY,
    ERB_BANDS,
    FILTERED_BINS,
    INNOVATION,
    N_FFT,
)
from timbre.denoise.network import FEATURE_LOOKAHEAD, FILTER_ORDER
from timbre.export.fourier import FactoredFourier
from timbre.export.gru import OnnxGru

# An exact factor for powers. The floor under them in the levels is 1e-10, and onnxruntime drops an
# added constant below 1e-8 as if it were zero: silence would have a level of minus infinity.
POWER_SCALE = 2.0**20
POWER_FLOOR = 1e-10


class PortableDenoiser(nn.Module):
    """The step's ``forward`` for export, of hops whose number is fixed or dynamic.

    Args:
        step: stays as it is; its recurrent layers are copied as ``OnnxGru``.
    """

    band_powers: Tensor

    def __init__(self, step: DenoiserByHop) -> None:
        super().__init__()
        self.step = deepcopy(step)
        network = self.step.network
        for squeezed in (network.enc.emb_gru, network.erb_dec.emb_gru, network.df_dec.df_gru):
            squeezed.gru = OnnxGru(squeezed.gru)  # type: ignore[assignment]
        window = step.frontend.window
        self.fourier = FactoredFourier(window / N_FFT, window)
        self.register_buffer("band_powers", step.frontend.band_means * POWER_SCALE)

    def forward(self, hops: Tensor, state: DenoiserState) -> tuple[Tensor, DenoiserState]:
        """Return the denoised (batch, hops · 480) and the next state, as of ``DenoiserByHop.forward``."""
        blocks = torch.unflatten(torch.cat((state.hop, hops), dim=1), 1, (-1, HOP))
        count = blocks.shape[1] - 1
        frames = torch.cat((blocks[:, :-1], blocks[:, 1:]), dim=2)
        spectrum = torch.stack(self.fourier.spectra(frames), dim=3)
        levels, low, means = self.features(spectrum, state.means)

        all_levels, all_low, started = self.step.append_frames(levels, low, state)
        gains, coefficients, taps, recurrent = self.step.decode(all_levels, all_low, started, state)

        spectra = torch.cat((state.spectrum, spectrum), dim=1)
        enhanced = self.enhance(spectra, gains, torch.view_as_real(coefficients))
        waves = self.fourier.frames(enhanced[..., 0], enhanced[..., 1])
        ends = torch.cat((state.overlap[:, None], waves[..., HOP:]), dim=1)
        denoised = (waves[..., :HOP] + ends[:, :-1]).flatten(1)
        return denoised, DenoiserState(
            hop=blocks[:, -1],
            means=means,
            spectrum=spectra[:, -(FILTER_ORDER - 1) :],
            levels=all_levels[:, -2:],
            low=all_low[:, -2:],
            taps=taps,
            recurrent=recurrent,
            overlap=ends[:, -1],
            seen=state.seen + count,
            length=state.length,
        )

    def features(self, spectrum: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the levels ``(batch, frames, 32)``, low bins and last means ``(batch, 128)``.

        From spectrum ``(batch, frames, 481, 2)`` and the running means before it.
        """
        power = spectrum.square().sum(dim=3)
        scaled = torch.log10(power @ self.band_powers + POWER_FLOOR * POWER_SCALE)
        levels = 10 * (scaled - math.log10(POWER_SCALE))
        low = spectrum[:, :, :FILTERED_BINS]
        magnitudes = power[..., :FILTERED_BINS].sqrt()
        means = _running_means(torch.cat((levels, magnitudes), dim=2), before)
        size = means[..., ERB_BANDS:].sqrt().clamp_min(1e-12)
        return (levels - means[..., :ERB_BANDS]) / 40, low / size[..., None], means[:, -1]

    def enhance(self, spectra: Tensor, gains: Tensor, taps: Tensor) -> Tensor:
        """Return the spectrum ``(batch, frames, 481, 2)``, from spectra that begin four frames earlier."""
        count = gains.shape[1]
        low = spectra[:, :, :FILTERED_BINS]
        parts = [
            _product(low[:, tap : tap + count], taps[..., tap, :]) for tap in range(FILTER_ORDER)
        ]
        # The frame that the taps are centred on.
        high = spectra[:, FEATURE_LOOKAHEAD : FEATURE_LOOKAHEAD + count, FILTERED_BINS:]
        scaled = high * (gains @ self.step.network.high_band_membership)[..., None]
        return torch.cat((torch.stack(parts).sum(dim=0), scaled), dim=2)


def _running_means(values: Tensor, before: Tensor) -> Tensor:
    """Return what ``timbre.denoise.frontend.running_means`` returns, frame by frame like it."""

    def advance(mean: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        mean = mean * DECAY + new
        return mean, mean.clone()  # the operator forbids one tensor in two places

    new = values * INNOVATION
    if values.shape[1] == 1:
        return before[:, None] * DECAY + new
    _, means = scan(advance, before.contiguous(), new.transpose(0, 1))
    frames_first: Tensor = means
    return frames_first.transpose(0, 1)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Return the complex product of (…, 2) real and imaginary parts."""
    real = one[..., 0] * other[..., 0] - one[..., 1] * other[..., 1]
    imaginary = one[..., 0] * other[..., 1] + one[..., 1] * other[..., 0]
    return torch.stack((real, imaginary), dim=-1)
