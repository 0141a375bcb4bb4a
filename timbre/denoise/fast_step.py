"""DeepFilterNet3 of a single hop on a CPU, with as few and as cheap operations as possible.

At one frame, what counts is the number of operations, and how fast weights come from memory. So
convolutions are products of patches, weights lie in the order in which they are read, and nothing is
done that only matters to longer pieces.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from timbre.denoise.fast_layers import (
    Product,
    Recurrence,
    convolution_product,
    convolve,
    double,
    doubling_product,
    grouped,
    padded_relu,
)
from timbre.denoise.frontend import DECAY, ERB_BANDS, FILTERED_BINS, HOP, INNOVATION
from timbre.denoise.network import CHANNELS, FEATURE_LOOKAHEAD, FILTER_ORDER, ChannelAffine
from timbre.denoise.step import TAP_FRAMES, TAPS, DenoiserState, DenoiserStep


class FastDenoiserStep:
    """`DenoiserStep` with another way for single hops; states are the same.

    Takes the weights as they are now, and copies most of them.
    """

    def __init__(self, step: DenoiserStep) -> None:
        self.step, self.latency_samples = step, step.latency_samples
        network = step.network
        encoder, gains, filters = network.enc, network.erb_dec, network.df_dec
        self._levels = convolution_product(encoder.erb_conv0)
        self._low = convolution_product(encoder.df_conv0)
        erb = (encoder.erb_conv1, encoder.erb_conv2, encoder.erb_conv3)
        self._down = [convolution_product(layer) for layer in erb]
        self._low_down = convolution_product(encoder.df_conv1)
        self._low_embedding = encoder.df_fc_emb.weight.detach()
        self._encode = Recurrence(encoder.emb_gru)
        self._gains = Recurrence(gains.emb_gru)
        self._affines = [
            _affine(layer) for layer in (gains.conv3p, gains.conv2p, gains.conv1p, gains.conv0p)
        ]
        self._same = convolution_product(gains.convt3)
        self._up = [doubling_product(layer) for layer in (gains.convt2, gains.convt1)]
        self._gain_out = convolution_product(gains.conv0_out)
        self._filters = Recurrence(filters.df_gru)
        self._skip, self._out = filters.df_skip.weight.detach(), filters.df_out.weight.detach()
        self._taps = _tap_product(filters.df_convp.weight.detach(), filters.df_convp.bias)

    def initial_state(self, batch: int) -> DenoiserState:
        """The state before the first hop of `batch` streams."""
        return self.step.initial_state(batch)

    def __call__(self, hops: Tensor, state: DenoiserState) -> tuple[Tensor, DenoiserState]:
        """What `DenoiserStep.forward` returns, to rounding."""
        if hops.shape[1] != HOP:
            result: tuple[Tensor, DenoiserState] = self.step(hops, state)
            return result
        frontend, batch = self.step.frontend, len(hops)
        frame = torch.cat((state.hop, hops), dim=1)
        spectrum = torch.view_as_real(torch.fft.rfft(frame * frontend.window, norm="forward"))
        levels, low, means = self._features(spectrum, state.means)
        started = state.seen >= 0
        counts = (started & (state.seen < state.length // HOP))[:, None]
        # Beyond the end the low bins are zero anyway.
        all_levels = torch.cat((state.levels, (levels * counts)[:, None]), dim=1)
        all_low = torch.cat((state.low, (low * counts[..., None])[:, None]), dim=1)

        recurrent: list[Tensor] = []
        before = list(state.recurrent.unbind(1))
        pyramid, low_map, encoding = self._encoded(all_levels, all_low)
        embedding = self._encode(encoding, before, recurrent)
        coarse = self._gains(embedding, before, recurrent).view(batch, -1, CHANNELS)
        hidden = self._filters(embedding, before, recurrent) + grouped(embedding, self._skip)
        detail, taps = self._detail(low_map, state.taps)
        taps_now = grouped(hidden, self._out).tanh_().view(batch, FILTERED_BINS, TAPS).add_(detail)
        gain = self._decoded(coarse, pyramid)

        spectra = torch.cat((state.spectrum, spectrum[:, None]), dim=1)
        enhanced = self._enhanced(spectra, gain, taps_now)
        wave = torch.fft.irfft(enhanced, 2 * HOP, norm="forward").mul_(frontend.window)
        mask = started[:, None, None]
        return wave[:, :HOP] + state.overlap, DenoiserState(
            hop=hops,
            means=means,
            spectrum=spectra[:, 1:],
            levels=all_levels[:, 1:],
            low=all_low[:, 1:],
            taps=taps * mask[..., None],
            recurrent=torch.stack(recurrent, dim=1) * mask,
            overlap=wave[:, HOP:],
            seen=state.seen + 1,
            length=state.length,
        )

    def _features(self, spectrum: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Levels (batch, 32), low bins (batch, 96, 2) and running means (batch, 128)."""
        power = (spectrum * spectrum).sum(2)
        levels = torch.log10((power @ self.step.frontend.band_means).add_(1e-10)).mul_(10)
        low = spectrum[:, :FILTERED_BINS]
        values = torch.cat((levels, power[:, :FILTERED_BINS].sqrt()), dim=1)
        # Operation by operation as in `running_means`, for its rounding.
        means = (before * DECAY).add_(values.mul_(INNOVATION))
        size = means[:, ERB_BANDS:].sqrt().clamp_min_(1e-12)
        return (levels - means[:, :ERB_BANDS]).div_(40), low / size[..., None], means

    def _encoded(self, levels: Tensor, low: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Padded ERB maps, low-bin map (batch, 96, 64) and encoding (batch, 512)."""
        maps = [padded_relu(_spread(levels[..., None], self._levels))]
        for layer, stride in zip(self._down, (2, 2, 1), strict=True):
            maps.append(padded_relu(convolve(maps[-1], layer, stride)))
        low_map = padded_relu(_spread(low, self._low))
        rows = convolve(low_map, self._low_down, 2).relu_().flatten(1)
        encoding = grouped(rows, self._low_embedding).relu_() + maps[-1][:, 1:-1].flatten(1)
        return maps, low_map[:, 1:-1], encoding

    def _detail(self, low_map: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """What `DenoiserStep.detail` returns, of one frame: (batch, 96, 10), (batch, 4, 96, 10)."""
        rows = torch.addmm(self._taps.bias, low_map.reshape(-1, CHANNELS), self._taps.weight)
        sums = rows.view(len(low_map), FILTERED_BINS, TAP_FRAMES + 1, TAPS).transpose(1, 2)
        detail = (sums[:, 0] + carried[:, 0]).relu_()
        return detail, torch.cat((sums[:, 1:-1] + carried[:, 1:], sums[:, -1:]), dim=1)

    def _decoded(self, coarse: Tensor, pyramid: list[Tensor]) -> Tensor:
        """Gains (batch, 32)."""
        erb0, erb1, erb2, erb3 = pyramid
        conv3p, conv2p, conv1p, conv0p = self._affines
        up = convolve(_joined(conv3p, erb3, coarse), self._same).relu_()
        up = double(_joined(conv2p, erb2, up), self._up[0]).relu_()
        up = double(_joined(conv1p, erb1, up), self._up[1]).relu_()
        return convolve(_joined(conv0p, erb0, up), self._gain_out).squeeze(2).sigmoid_()

    def _enhanced(self, spectra: Tensor, gain: Tensor, taps: Tensor) -> Tensor:
        """Spectrum (batch, 481), complex, of the last five frames' spectra."""
        coefficients = torch.view_as_complex(taps.view(len(taps), FILTERED_BINS, FILTER_ORDER, 2))
        low = torch.view_as_complex(spectra[:, :, :FILTERED_BINS])
        filtered = (low * coefficients.transpose(1, 2)).sum(1)
        scale = gain @ self.step.network.high_band_membership
        high = spectra[:, FEATURE_LOOKAHEAD, FILTERED_BINS:] * scale[..., None]
        return torch.view_as_complex(torch.cat((torch.view_as_real(filtered), high), dim=1))


def _spread(features: Tensor, layer: Product) -> Tensor:
    """(batch, bins, 64) of three frames of features (batch, 3, bins, channels)."""
    batch, _, bins, _ = features.shape
    patches = F.pad(features, (0, 0, 1, 1)).unfold(2, 3, 1).permute(0, 2, 1, 4, 3)
    rows = torch.addmm(layer.bias, patches.reshape(batch * bins, -1), layer.weight)
    return rows.view(batch, bins, CHANNELS)


def _joined(affine: Product, padded: Tensor, up: Tensor) -> Tensor:
    """Padded maps: what `ChannelAffine` and a rectifier make of padded ones, and `up` added."""
    batch, bins, channels = padded.shape
    joined = padded.new_zeros(batch, bins, channels)
    changed = torch.addcmul(affine.bias, padded[:, 1:-1], affine.weight).relu_()
    torch.add(changed, up, out=joined[:, 1:-1])
    return joined


def _affine(layer: ChannelAffine) -> Product:
    return Product(layer.weight.detach().flatten(), layer.bias.detach().flatten())


def _tap_product(weight: Tensor, bias: Tensor | None) -> Product:
    """The convolution over five frames as a product: to the taps of its own frame and of the next four."""
    assert bias is not None
    by_delay = weight[..., 0].flip(2).permute(1, 2, 0)  # (inputs, delay, outputs)
    biases = torch.zeros(TAP_FRAMES + 1, TAPS)
    biases[0] = bias.detach()
    return Product(by_delay.flatten(1).contiguous(), biases.flatten())
