"""The layers of DeepFilterNet3: features in, ERB gains and deep-filter coefficients out.

Modules are named as in the official ``df.deepfilternet3.DfNet``. Three things differ, none in the
result: batch norms, and 1x1 convolutions after a depthwise one, are folded into one convolution
(``official.py`` does it; there is no activation in between); activations lie in memory as (batch,
frames, bins, channels), so that going from convolutions to recurrent layers and back moves no data;
and on a CPU the convolutions take a few clips at a time. ``benchmarks/denoise.py`` measures it all.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from timbre.denoise.frontend import ERB_BANDS, FILTERED_BINS, band_membership

CHANNELS = 64
HIDDEN = 256
EMBEDDING = CHANNELS * ERB_BANDS // 4
FILTER_ORDER = 5
FILTER_LOOKAHEAD = 2  # frames
FEATURE_LOOKAHEAD = 2  # frames

# The recurrent layers want large batches. The convolutions want their maps near the CPU's cache, and
# below the size at which malloc returns memory after each use: a third less time than all at once.
CLIPS_PER_CONVOLUTION_ON_CPU = 2


class Network(nn.Module):
    """Enhances a spectrum, given its features."""

    high_band_membership: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.enc = Encoder()
        self.erb_dec = GainDecoder()
        self.df_dec = FilterDecoder()
        high = band_membership()[FILTERED_BINS:].T.contiguous()
        self.register_buffer("high_band_membership", high, persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, spectrum: Tensor, levels: Tensor, low: Tensor) -> Tensor:
        """Return the enhanced spectrum ``(batch, frames, 481)``, complex.

        From the spectrum of that shape and its features: levels ``(batch, frames, 32)`` and low
        ``(batch, frames, 96, 2)``. Output frame t sees features up to frame t + 2.
        """
        # The two frames of look-ahead: the features move up, zeros follow. The first two frames are
        # lost, which only the Python runtime of the official package does. The zeros in front are
        # what the 3-frame convolutions see before the beginning.
        ahead = (FEATURE_LOOKAHEAD, FEATURE_LOOKAHEAD)
        levels = F.pad(levels[:, FEATURE_LOOKAHEAD:], (0, 0, *ahead))
        low = F.pad(low[:, FEATURE_LOOKAHEAD:], (0, 0, 0, 0, *ahead))
        gains, coefficients = self.decode(levels[:, None], low.permute(0, 3, 1, 2))
        filtered = deep_filter(spectrum[..., :FILTERED_BINS], coefficients)
        scaled = spectrum[..., FILTERED_BINS:] * (gains @ self.high_band_membership)
        return torch.cat((filtered, scaled), dim=-1)

    def decode(self, levels: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gains (batch, frames, 32) and complex filter coefficients (batch, frames, 96, 5).

        From levels ``(batch, 1, frames + 2, 32)`` and low ``(batch, 2, frames + 2, 96)``.
        """
        clips = CLIPS_PER_CONVOLUTION_ON_CPU if levels.device.type == "cpu" else len(levels)
        pyramids: list[list[Tensor]] = []
        encoded: list[Tensor] = []
        details: list[Tensor] = []
        for some in zip(torch.split(levels, clips), torch.split(low, clips), strict=True):
            pyramid, low_map, encoding = self.enc(*some)
            pyramids.append(pyramid)
            encoded.append(encoding)
            details.append(self.df_dec.convolve(low_map))
        embedding = self.enc.emb_gru(torch.cat(encoded))
        coarse = torch.split(self.erb_dec.emb_gru(embedding), clips)
        gains = torch.cat([self.erb_dec(*maps) for maps in zip(coarse, pyramids, strict=True)])
        return gains, self.df_dec(embedding, torch.cat(details))


def deep_filter(spectrum: Tensor, coefficients: Tensor) -> Tensor:
    """Return each bin filtered along time by its own taps, which change with every frame.

    spectrum (batch, frames, bins) and coefficients (batch, frames, bins, 5), both complex; tap k of
    frame t weighs frame t + k - 2.
    """
    behind = FILTER_ORDER - 1 - FILTER_LOOKAHEAD
    frames = spectrum.shape[1]
    padded = F.pad(spectrum, (0, 0, behind, FILTER_LOOKAHEAD))
    filtered = padded[:, :frames] * coefficients[..., 0]
    for tap in range(1, FILTER_ORDER):
        filtered.addcmul_(padded[:, tap : tap + frames], coefficients[..., tap])
    return filtered


class Encoder(nn.Module):
    """Features to one encoding per frame, and the maps that the decoders look back at."""

    def __init__(self) -> None:
        super().__init__()
        self.erb_conv0 = nn.Conv2d(1, CHANNELS, (3, 3), padding=(0, 1))
        self.erb_conv1 = convolution(stride=2)
        self.erb_conv2 = convolution(stride=2)
        self.erb_conv3 = convolution()
        self.df_conv0 = nn.Conv2d(2, CHANNELS, (3, 3), padding=(0, 1))
        self.df_conv1 = convolution(stride=2)
        self.df_fc_emb = GroupedLinear(CHANNELS * FILTERED_BINS // 2, EMBEDDING, groups=32)
        self.emb_gru = SqueezedGru(layers=1, groups=16, outputs=EMBEDDING)

    def forward(self, levels: Tensor, low: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return the ERB maps ``(batch, 64, frames, 32 / 16 / 8 / 8)``, low-bin map and encoding.

        From levels (batch, 1, frames + 2, 32) and low (batch, 2, frames + 2, 96). The encoding
        ``(batch, frames, 512)`` still has to go through ``emb_gru``.
        """
        erb0 = self.erb_conv0(levels).relu_()
        erb1 = self.erb_conv1(erb0).relu_()
        erb2 = self.erb_conv2(erb1).relu_()
        erb3 = self.erb_conv3(erb2).relu_()
        low_map = self.df_conv0(low).relu_()
        low_rows = rows(self.df_conv1(low_map).relu_())
        return [erb0, erb1, erb2, erb3], low_map, self.df_fc_emb(low_rows).relu_() + rows(erb3)


class GainDecoder(nn.Module):
    """A gain between 0 and 1 for each ERB band (officially ``ErbDecoder``)."""

    def __init__(self) -> None:
        super().__init__()
        self.emb_gru = SqueezedGru(layers=2, groups=16, outputs=EMBEDDING)
        self.conv3p = ChannelAffine(CHANNELS)
        self.convt3 = convolution()
        self.conv2p = ChannelAffine(CHANNELS)
        self.convt2 = upsampling_convolution()
        self.conv1p = ChannelAffine(CHANNELS)
        self.convt1 = upsampling_convolution()
        self.conv0p = ChannelAffine(CHANNELS)
        self.conv0_out = nn.Conv2d(CHANNELS, 1, (1, 3), padding=(0, 1))

    def forward(self, coarse: Tensor, pyramid: list[Tensor]) -> Tensor:
        """Return the gains ``(batch, frames, 32)`` from ``emb_gru`` and the encoder's ERB maps."""
        erb0, erb1, erb2, erb3 = pyramid
        up = torch.unflatten(coarse, 2, (-1, CHANNELS)).permute(0, 3, 1, 2)
        up = self.convt3(self.conv3p(erb3).relu_().add_(up)).relu_()
        up = self.convt2(self.conv2p(erb2).relu_().add_(up)).relu_()
        up = self.convt1(self.conv1p(erb1).relu_().add_(up)).relu_()
        gains: Tensor = self.conv0_out(self.conv0p(erb0).relu_().add_(up)).sigmoid_()
        return gains.squeeze(1)


class FilterDecoder(nn.Module):
    """The taps of the deep filter for the lowest 96 bins (officially ``DfDecoder``)."""

    def __init__(self) -> None:
        super().__init__()
        taps = 2 * FILTER_ORDER  # real and imaginary parts
        self.df_convp = nn.Conv2d(CHANNELS, taps, (5, 1), padding=(4, 0))
        self.df_gru = SqueezedGru(layers=2, groups=8, outputs=None)
        self.df_skip = GroupedLinear(EMBEDDING, HIDDEN, groups=16)
        self.df_out = GroupedLinear(HIDDEN, FILTERED_BINS * taps, groups=16)

    def convolve(self, low_map: Tensor) -> Tensor:
        """Return the taps' convolution part ``(batch, frames, 96, 10)`` of the low-bin map."""
        # Cutting the ten output channels is cheaper than padding 64 input channels on one side.
        detail: Tensor = self.df_convp(low_map)[:, :, : low_map.shape[2]]
        return detail.relu_().permute(0, 2, 3, 1)

    def forward(self, embedding: Tensor, detail: Tensor) -> Tensor:
        """Return the complex coefficients ``(batch, frames, 96, 5)``."""
        return self.combine(self.df_gru(embedding), embedding, detail)

    def combine(self, state: Tensor, embedding: Tensor, detail: Tensor) -> Tensor:
        """Return what ``forward`` does, from the output of ``df_gru`` ``(batch, frames, 256)``."""
        state = state + self.df_skip(embedding)
        coarse = torch.unflatten(self.df_out(state).tanh_(), 2, (FILTERED_BINS, -1))
        return torch.view_as_complex(torch.unflatten(coarse + detail, 3, (FILTER_ORDER, 2)))


class SqueezedGru(nn.Module):
    """GRU between two grouped linear layers; the second one is left out if ``outputs`` is None."""

    def __init__(self, layers: int, groups: int, outputs: int | None) -> None:
        super().__init__()
        self.linear_in = GroupedLinear(EMBEDDING, HIDDEN, groups)
        self.gru = nn.GRU(HIDDEN, HIDDEN, num_layers=layers, batch_first=True)
        self.linear_out = None if outputs is None else GroupedLinear(HIDDEN, outputs, groups)
        self._lay_out(columns=True)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SqueezedGru":
        """Move or convert the layers: what ``to`` and ``cuda`` do in every module."""
        # Before the GRU is moved: cuDNN, at once, takes weights whose rows are contiguous alone.
        self._lay_out(columns=False)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._lay_out(columns=self.gru.weight_hh_l0.device.type == "cpu")
        return self

    def _lay_out(self, columns: bool) -> None:
        """Make contiguous the weights' columns, with which a step's small product is a third faster
        on a CPU, or their rows."""
        for layer in range(self.gru.num_layers):
            weight = self.gru.get_parameter(f"weight_hh_l{layer}")
            weight.data = weight.data.T.contiguous().T if columns else weight.data.contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, frames, outputs)`` of ``(batch, frames, 512)``."""
        states: Tensor = self.gru(self.linear_in(x).relu_())[0]
        if self.linear_out is not None:
            states = self.linear_out(states).relu_()
        return states


class GroupedLinear(nn.Module):
    """Linear layer without bias whose weight is block-diagonal."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(groups, inputs // groups, outputs // groups))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, frames, outputs)`` of ``(batch, frames, inputs)``."""
        grouped = torch.unflatten(x, 2, self.weight.shape[:2])
        return torch.einsum("btgi,gio->btgo", grouped, self.weight).flatten(2)


class ChannelAffine(nn.Module):
    """A scale and an offset per channel: what a depthwise 1x1 convolution and a batch norm do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, channels, frames, bins)`` of the same."""
        return torch.addcmul(self.bias, x, self.weight)


def convolution(stride: int = 1) -> nn.Conv2d:
    """Return a convolution over three neighbouring bins; a stride of 2 halves their number."""
    return nn.Conv2d(CHANNELS, CHANNELS, (1, 3), stride=(1, stride), padding=(0, 1))


def upsampling_convolution() -> nn.ConvTranspose2d:
    """Return a transposed convolution over bins that doubles their number."""
    return nn.ConvTranspose2d(
        CHANNELS, CHANNELS, (1, 3), stride=(1, 2), padding=(0, 1), output_padding=(0, 1)
    )


def rows(maps: Tensor) -> Tensor:
    """Return a view ``(batch, frames, bins · channels)`` of ``(batch, channels, frames, bins)``."""
    return maps.permute(0, 2, 3, 1).flatten(2)
