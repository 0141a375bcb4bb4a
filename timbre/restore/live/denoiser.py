"""DeepFilterNet3 hop by hop on a CPU, as fast as one frame at a time goes."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from timbre.audio import HOP
from timbre.denoise.by_hop import ENDLESS, LATENCY_SAMPLES, TAP_FRAMES, TAPS
from timbre.denoise.frontend import ERB_BANDS, FILTERED_BINS
from timbre.denoise.model import DeepFilterNet3
from timbre.denoise.network import CHANNELS, FEATURE_LOOKAHEAD
from timbre.restore.live.denoiser_front import FrontHop
from timbre.restore.live.denoiser_layers import (
    Affine,
    BoundPatches,
    BoundRecurrence,
    Doubling,
    PatchConvolution,
    Recurrence,
    bind_convolution,
    bind_doubling,
    padded_maps,
    rectify_into,
)
from timbre.restore.live.products import Array, GroupProduct, PatchProduct, multiply, sigmoid, tanh


class LiveDenoiserState(NamedTuple):
    """The streams, which change from call to call, and the signal's samples, once they are known."""

    streams: "list[DenoiserHop]"
    length: Tensor


class LiveDenoiser:
    """``DenoiserByHop`` for single hops; longer pieces are taken hop by hop.

    Takes the weights as they are now. A state can be used once, as the call changes it.
    """

    latency_samples = LATENCY_SAMPLES

    def __init__(self, model: DeepFilterNet3) -> None:
        self._weights = DenoiserWeights(model)

    def initial_state(self, batch: int) -> LiveDenoiserState:
        """Return the state before the first hop of ``batch`` streams."""
        streams = [DenoiserHop(self._weights) for _ in range(batch)]
        return LiveDenoiserState(streams, torch.full((batch,), ENDLESS))

    def __call__(self, hops: Tensor, state: LiveDenoiserState) -> tuple[Tensor, LiveDenoiserState]:
        """Return the denoised ``(batch, hops · 480)``, late by ``latency_samples``, and the next state."""
        denoised = np.empty(hops.shape, np.float32)
        lengths = state.length.tolist()
        for row, (stream, length) in enumerate(zip(state.streams, lengths, strict=True)):
            for first in range(0, hops.shape[1], HOP):
                hop = slice(first, first + HOP)
                denoised[row, hop] = stream(hops[row, hop].numpy(), length)
        return torch.from_numpy(denoised), state


class DenoiserWeights:
    """The network's weights, in the order in which single frames read them."""

    def __init__(self, model: DeepFilterNet3) -> None:
        encoder, gains, filters = model.network.enc, model.network.erb_dec, model.network.df_dec
        self.window: Array = model.frontend.window.numpy()
        self.start_means: Array = model.frontend.start_means.numpy()
        self.levels, self.low = (
            PatchConvolution(encoder.erb_conv0),
            PatchConvolution(encoder.df_conv0),
        )
        down = ((encoder.erb_conv1, 2), (encoder.erb_conv2, 2), (encoder.erb_conv3, 1))
        self.down = [PatchConvolution(layer, stride) for layer, stride in down]
        self.low_down = PatchConvolution(encoder.df_conv1, 2)
        self.low_embedding = GroupProduct(encoder.df_fc_emb.weight)
        self.encode, self.gains = Recurrence(encoder.emb_gru), Recurrence(gains.emb_gru)
        affines = (gains.conv3p, gains.conv2p, gains.conv1p, gains.conv0p)
        self.affines = [Affine.of(layer) for layer in affines]
        self.same, self.gain_out = PatchConvolution(gains.convt3), PatchConvolution(gains.conv0_out)
        self.up = [Doubling(gains.convt2), Doubling(gains.convt1)]
        self.filters = Recurrence(filters.df_gru)
        self.skip, self.out = (
            GroupProduct(filters.df_skip.weight),
            GroupProduct(filters.df_out.weight),
        )
        # To the taps of a frame itself, and of the next four.
        by_delay = filters.df_convp.weight[..., 0].flip(2).permute(1, 2, 0)
        bias = torch.zeros(TAP_FRAMES + 1, TAPS)
        assert filters.df_convp.bias is not None
        bias[0] = filters.df_convp.bias.detach()
        self.taps = PatchProduct(by_delay.flatten(1), bias.flatten())


class DenoiserHop:
    """One stream: its past, and the places of all that is computed."""

    def __init__(self, weights: DenoiserWeights) -> None:
        self._frames = -FEATURE_LOOKAHEAD
        self._front = FrontHop(weights.window, weights.start_means)
        self._encoder, self._decoder = EncoderHop(weights), GainHop(weights)
        self._filters = BoundRecurrence(weights.filters)
        self._skip, self._out = weights.skip.bind(), weights.out.bind()
        self._tap_sums = weights.taps.bind(FILTERED_BINS)
        self._coming = np.zeros((TAP_FRAMES + 1, FILTERED_BINS, TAPS), np.float32)

    def __call__(self, hop: Array, length: int) -> Array:
        """Return the denoised ``(480,)`` of a hop; valid until the next call."""
        front, encoder = self._front, self._encoder
        front.analyse(hop)
        index, self._frames = self._frames, self._frames + 1
        if index < 0:
            # The features of these frames are dropped, and nothing that comes out now is used.
            return np.zeros(HOP, np.float32)
        if index >= length // HOP:
            # Beyond the end features are zero, not those of silence.
            front.levels[:] = 0
        embedding = encoder(front.levels, front.low)
        hidden = self._filters(embedding) + multiply(self._skip, embedding)
        taps = multiply(self._out, hidden).reshape(FILTERED_BINS, TAPS)
        tanh(taps)
        taps += self._detail(encoder.low_map)
        gains = self._decoder(embedding, encoder.maps)
        return front.synthesise(gains, taps.view(np.complex64).T)

    def _detail(self, low_map: Array) -> Array:
        """Return the convolution part of the taps ``(96, 10)``; what later frames get of it is kept."""
        coming = self._coming
        sums = multiply(self._tap_sums, low_map).reshape(FILTERED_BINS, TAP_FRAMES + 1, TAPS)
        coming[:-1] = coming[1:]
        coming[-1] = 0
        coming += sums.transpose(1, 0, 2)
        detail: Array = np.maximum(coming[0], 0)
        return detail


class EncoderHop:
    """Features to an embedding; keeps the last frames' features.

    maps, low_map: those of the last call, padded ``(bins + 2, 64)`` and not padded ``(96, 64)``.
    """

    def __init__(self, weights: DenoiserWeights) -> None:
        self._levels = np.zeros((3, ERB_BANDS + 2), np.float32)
        self._low = np.zeros((3, FILTERED_BINS + 2, 2), np.float32)
        # (bin, frame, tap) and (bin, frame, tap, part)
        levels = sliding_window_view(self._levels, 3, axis=1).transpose(1, 0, 2)
        low = sliding_window_view(self._low, 3, axis=1).transpose(1, 0, 3, 2)
        self._from_levels = BoundPatches(weights.levels.product.bind(ERB_BANDS), levels)
        self._from_low = BoundPatches(weights.low.product.bind(FILTERED_BINS), low)
        self.maps = [padded_maps(bins) for bins in (32, 16, 8, 8)]
        padded_low = padded_maps(FILTERED_BINS)
        self._padded_low, self.low_map = padded_low, padded_low[1:-1]
        self._down = [
            bind_convolution(layer, padded)
            for layer, padded in zip(weights.down, self.maps[:-1], strict=True)
        ]
        self._low_down = bind_convolution(weights.low_down, padded_low)
        self._low_embedding = weights.low_embedding.bind()
        self._encode = BoundRecurrence(weights.encode)

    def __call__(self, levels: Array, low: Array) -> Array:
        """Return the embedding ``(512,)`` of the features; valid until the next call."""
        self._levels[:-1] = self._levels[1:]
        self._levels[-1, 1:-1] = levels
        self._low[:-1] = self._low[1:]
        self._low[-1, 1:-1] = low
        rectify_into(self.maps[0], self._from_levels())
        for padded, layer in zip(self.maps[1:], self._down, strict=True):
            rectify_into(padded, layer())
        rectify_into(self._padded_low, self._from_low())
        rows = np.maximum(self._low_down(), 0)
        encoding = multiply(self._low_embedding, rows.reshape(-1))
        np.maximum(encoding, 0, out=encoding)
        encoding += self.maps[-1][1:-1].reshape(-1)
        return self._encode(encoding)


class GainHop:
    """The embedding to a gain for each band."""

    def __init__(self, weights: DenoiserWeights) -> None:
        self._coarse = BoundRecurrence(weights.gains)
        self._affines = weights.affines
        self._merges = [padded_maps(bins) for bins in (8, 8, 16, 32)]
        self._layers = [
            bind_convolution(weights.same, self._merges[0]),
            bind_doubling(weights.up[0], self._merges[1]),
            bind_doubling(weights.up[1], self._merges[2]),
            bind_convolution(weights.gain_out, self._merges[3]),
        ]

    def __call__(self, embedding: Array, maps: list[Array]) -> Array:
        """Return the gains ``(32,)``, from the encoder's maps too; valid until the next call."""
        up = self._coarse(embedding)
        steps = zip(self._affines, self._merges, self._layers, reversed(maps), strict=True)
        for affine, merge, layer, beside in steps:
            affine.join(beside, up.reshape(-1, CHANNELS), merge)
            up = layer()
            if layer is not self._layers[-1]:
                np.maximum(up, 0, out=up)
        gains: Array = up[:, 0]
        sigmoid(gains)
        return gains
