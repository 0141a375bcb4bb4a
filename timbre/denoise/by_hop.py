"""DeepFilterNet3 hop by hop: what it needs of the past is carried from call to call.

Any cutting of a signal into calls gives what ``DeepFilterNet3.forward`` gives of the whole, late by
LATENCY_SAMPLES: a frame looks two frames ahead, and a sample lies in two frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from timbre.audio import HOP
from timbre.denoise.frontend import BINS, ERB_BANDS, FILTERED_BINS
from timbre.denoise.model import DeepFilterNet3
from timbre.denoise.network import FEATURE_LOOKAHEAD, FILTER_ORDER, HIDDEN, SqueezedGru

LATENCY_HOPS = 3
LATENCY_SAMPLES = LATENCY_HOPS * HOP
TAPS = 2 * FILTER_ORDER  # real and imaginary parts
TAP_FRAMES = 4  # frames past its own that a frame's low bins add to the taps of
GRU_LAYERS = 5  # encoder 1, gains 2, filter 2
# No signal is as long: three million years.
ENDLESS = 1 << 62


class DenoiserState(NamedTuple):
    """What is carried from hop to hop; row i of each tensor belongs to stream i.

    hop: ``(batch, 480)`` the last one.
    means: ``(batch, 128)`` running means of the features.
    spectrum: ``(batch, 4, 481, 2)`` of the last frames: real, imaginary.
    levels, low: ``(batch, 2, 32)`` and ``(batch, 2, 96, 2)`` features of the last frames.
    taps: ``(batch, 4, 96, 10)`` what is known so far of the coming frames' filter taps.
    recurrent: ``(batch, 5, 256)`` states of the recurrent layers.
    overlap: ``(batch, 480)`` second half of the last frame.
    seen: ``(batch,)`` int64, hops so far, minus the two whose features are dropped.
    length: ``(batch,)`` int64, the signal's samples, once they are known.
    """

    hop: Tensor
    means: Tensor
    spectrum: Tensor
    levels: Tensor
    low: Tensor
    taps: Tensor
    recurrent: Tensor
    overlap: Tensor
    seen: Tensor
    length: Tensor


class DenoiserByHop(nn.Module):
    """Denoises a stream, any number of hops a call; shares the weights of ``model``.

    Like its ``forward`` it drops the first two feature frames, which the Rust runtimes do not.
    """

    latency_samples = LATENCY_SAMPLES
    real_edges: Tensor

    def __init__(self, model: DeepFilterNet3) -> None:
        super().__init__()
        self.frontend = model.frontend
        self.network = model.network
        # libdf's inverse ignores the imaginary parts of the outermost bins and so does MKL, but
        # cuFFT does not.
        real_edges = torch.ones(BINS, 2)
        real_edges[[0, -1], 1] = 0
        self.register_buffer("real_edges", real_edges, persistent=False)

    def initial_state(self, batch: int) -> DenoiserState:
        """Return the state before the first hop of ``batch`` streams."""
        start = self.frontend.start_means

        def zeros(*shape: int) -> Tensor:
            return start.new_zeros(batch, *shape)

        return DenoiserState(
            hop=zeros(HOP),
            means=start.repeat(batch, 1),
            spectrum=zeros(FILTER_ORDER - 1, BINS, 2),
            levels=zeros(2, ERB_BANDS),
            low=zeros(2, FILTERED_BINS, 2),
            taps=zeros(TAP_FRAMES, FILTERED_BINS, TAPS),
            recurrent=zeros(GRU_LAYERS, HIDDEN),
            overlap=zeros(HOP),
            seen=start.new_full((batch,), -FEATURE_LOOKAHEAD, dtype=torch.int64),
            length=start.new_full((batch,), ENDLESS, dtype=torch.int64),
        )

    def forward(self, hops: Tensor, state: DenoiserState) -> tuple[Tensor, DenoiserState]:
        """Return the denoised ``(batch, hops · 480)``, late by ``latency_samples``, and the next state.

        ``hops`` (batch, hops · 480): at least one. What comes out before the signal's first sample
        means nothing. Behind its last sample come zeros, up to the end of that hop; then, with the
        signal's ``length`` in the state, LATENCY_HOPS hops of zeros give the end exactly.
        """
        count = hops.shape[1] // HOP
        frames = torch.cat((state.hop, hops), dim=1).unfold(1, 2 * HOP, HOP)
        spectrum = torch.fft.rfft(frames * self.frontend.window, norm="forward")
        levels, low, means = self.frontend.continued_features(spectrum, state.means)

        all_levels, all_low, started = self.append_frames(levels, low, state)
        gains, coefficients, taps, recurrent = self.decode(all_levels, all_low, started, state)

        spectra = torch.cat((state.spectrum, torch.view_as_real(spectrum)), dim=1)
        enhanced = self.enhance(torch.view_as_complex(spectra), gains, coefficients)
        waves = torch.fft.irfft(enhanced, 2 * HOP, norm="forward") * self.frontend.window
        ends = torch.cat((state.overlap[:, None], waves[..., HOP:]), dim=1)
        denoised = (waves[..., :HOP] + ends[:, :-1]).flatten(1)
        return denoised, DenoiserState(
            hop=hops[:, -HOP:],
            means=means,
            spectrum=spectra[:, count:],
            levels=all_levels[:, count:],
            low=all_low[:, count:],
            taps=taps,
            recurrent=recurrent,
            overlap=ends[:, -1],
            seen=state.seen + count,
            length=state.length,
        )

    def append_frames(
        self, levels: Tensor, low: Tensor, state: DenoiserState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the levels and low bins behind the two frames before them, and which frames count.

        The two frames at the start are dropped, and beyond the end features are zero, not those of
        silence.
        """
        index = state.seen[:, None] + torch.arange(levels.shape[1], device=levels.device)
        started = index >= 0
        last = state.length[:, None] // HOP
        levels = levels * (started & (index < last))[..., None]
        low = low * started[..., None, None]
        all_levels = torch.cat((state.levels, levels), dim=1)
        return all_levels, torch.cat((state.low, low), dim=1), started

    def decode(
        self, levels: Tensor, low: Tensor, started: Tensor, state: DenoiserState
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gains ``(batch, frames, 32)``, taps ``(batch, frames, 96, 5)``, and next state.

        From levels (batch, frames + 2, 32), low (batch, frames + 2, 96, 2) and which frames count,
        started ``(batch, frames)``.
        """
        net = self.network
        pyramid, low_map, encoding = net.enc(levels[:, None], low.permute(0, 3, 1, 2))
        detail, taps = self.detail(low_map * started[:, None, :, None], state.taps)
        before = state.recurrent
        embedding, encoder = recur(net.enc.emb_gru, encoding, before[:, :1], started)
        coarse, gain = recur(net.erb_dec.emb_gru, embedding, before[:, 1:3], started)
        hidden, filtering = recur(net.df_dec.df_gru, embedding, before[:, 3:], started)
        gains = net.erb_dec(coarse, pyramid)
        coefficients = net.df_dec.combine(hidden, embedding, detail)
        return gains, coefficients, taps, torch.cat((encoder, gain, filtering), dim=1)

    def detail(self, low_map: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """Return the taps' convolution part ``(batch, frames, 96, 10)``, and that of coming frames.

        From low_map (batch, 64, frames, 96) and what earlier frames gave, (batch, 4, 96, 10). Sums
        of ten channels are carried, not the 64 that they come from.
        """
        convolution = self.network.df_dec.df_convp
        count = low_map.shape[2]
        sums = F.conv2d(low_map, convolution.weight, padding=(TAP_FRAMES, 0)).permute(0, 2, 3, 1)
        sums = sums + F.pad(carried, (0, 0, 0, 0, 0, count))
        assert convolution.bias is not None
        return torch.relu(sums[:, :count] + convolution.bias), sums[:, count:]

    def enhance(self, spectra: Tensor, gains: Tensor, coefficients: Tensor) -> Tensor:
        """Return the spectrum ``(batch, frames, 481)``, from spectra that begin four frames earlier."""
        count = gains.shape[1]
        low = spectra[..., :FILTERED_BINS]
        filtered = low[:, :count] * coefficients[..., 0]
        for tap in range(1, FILTER_ORDER):
            filtered = filtered + low[:, tap : tap + count] * coefficients[..., tap]
        # The frame that the taps are centred on.
        high = spectra[:, FEATURE_LOOKAHEAD : FEATURE_LOOKAHEAD + count, FILTERED_BINS:]
        scaled = high * (gains @ self.network.high_band_membership)
        enhanced = torch.view_as_real(torch.cat((filtered, scaled), dim=2))
        return torch.view_as_complex(enhanced * self.real_edges)


def recur(
    squeezed: SqueezedGru, inputs: Tensor, before: Tensor, started: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (batch, frames, outputs) of inputs (batch, frames, 512), and the layers' next states.

    Both states are (batch, layers, 256). Until the first frame that counts they stay zero; a stream
    waits for it no more than two frames, so at most the first two are taken one by one.
    """
    hidden = before.transpose(0, 1).contiguous()
    squeezed_inputs = squeezed.linear_in(inputs).relu_()
    count = inputs.shape[1]
    outputs: list[Tensor] = []
    for first in range(min(count, FEATURE_LOOKAHEAD + 1)):
        last = first + 1 if first < FEATURE_LOOKAHEAD else count
        output, hidden = squeezed.gru(squeezed_inputs[:, first:last], hidden)
        if first < FEATURE_LOOKAHEAD:
            hidden = hidden * started[:, first, None]
        outputs.append(output)
    states = torch.cat(outputs, dim=1)
    if squeezed.linear_out is not None:
        states = squeezed.linear_out(states).relu_()
    return states, hidden.transpose(0, 1)
