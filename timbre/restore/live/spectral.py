"""The causal spectral generator hop by hop on a CPU, as fast as one frame at a time goes."""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from timbre.audio import HOP
from timbre.audio.spectra import COMPRESSION, sine_window
from timbre.models.checks import check_causal
from timbre.models.levels import LEVEL_FLOOR, LEVEL_FRAMES
from timbre.models.limits import PAUSE_FRAMES
from timbre.models.spectral import (
    CENTRE,
    FEATURE_FLOOR,
    MAX_LOG_GAIN,
    ConvNextBlock,
    SpectralGenerator,
)
from timbre.models.spectral_by_hop import BINS, SCALE
from timbre.restore.live.levels import LiveLevel, LiveSpectrum, Spread, add_up, bin_power
from timbre.restore.live.limits import LiveLimits
from timbre.restore.live.products import Array, RowProduct, tanh

N_FFT = 2 * HOP
LOG_POWER_FLOOR = 2 * math.log(FEATURE_FLOOR)
EPSILON = 1e-6  # of every norm


class LiveSpectralState(NamedTuple):
    """The streams, which change from call to call."""

    streams: "list[SpectralHop]"


class LiveSpectral:
    """``SpectralByHop`` for single hops; longer pieces are taken hop by hop.

    Takes the weights as they are now. A state can be used once, as the call changes it.

    Raises:
        ValueError: the generator looks ahead.
    """

    latency_samples = HOP

    def __init__(self, generator: SpectralGenerator) -> None:
        self._weights = SpectralWeights(generator)

    def initial_state(self, batch: int) -> LiveSpectralState:
        """Return the state before the first hop of ``batch`` streams."""
        return LiveSpectralState([SpectralHop(self._weights) for _ in range(batch)])

    def __call__(
        self, hops: Tensor, state: LiveSpectralState, noisy: Tensor | None = None
    ) -> tuple[Tensor, LiveSpectralState]:
        """Return what :meth:`SpectralByHop.forward` does, to rounding."""
        restored = np.empty(hops.shape, np.float32)
        for row, stream in enumerate(state.streams):
            for first in range(0, hops.shape[1], HOP):
                hop = slice(first, first + HOP)
                noisy_hop = None if noisy is None else noisy[row, hop].numpy()
                restored[row, hop] = stream(hops[row, hop].numpy(), noisy_hop)
        return torch.from_numpy(restored), state


class SpectralWeights:
    """The generator's weights, in the order in which single frames read them."""

    def __init__(self, generator: SpectralGenerator) -> None:
        check_causal(generator.latency_samples)
        path = generator.noisy_path
        # In double precision for the reason in `SpectralByHop.analyse`.
        self.analysis: NDArray[np.float64] = (sine_window(HOP) / SCALE).numpy()
        self.synthesis: Array = (sine_window(HOP) * SCALE).float().numpy()
        self.hears_noisy = path is not None
        levels, real, imaginary = generator.embed.weight.detach().chunk(3, dim=1)
        # Real and imaginary parts side by side, as complex numbers lie in memory.
        columns = [levels, torch.stack((real, imaginary), dim=2).flatten(1)]
        rows, biases = [generator.head.weight.detach()], [generator.head.bias.detach()]
        if path is not None:
            columns.append(path.embed.weight.detach())
            rows.append(path.share.weight.detach())
            biases.append(path.share.bias.detach())
        self.embed = RowProduct(torch.cat(columns, dim=1), generator.embed.bias)
        norm = generator.embed_norm
        self.norm = norm.weight.detach().numpy(), norm.bias.detach().numpy()
        self.head = RowProduct(*fold_norm(generator.head_norm, torch.cat(rows), torch.cat(biases)))
        self.blocks: list[BlockWeights] = [BlockWeights(block) for block in generator.blocks]  # type: ignore[arg-type]
        self.near, self.wide = Spread(generator.near), Spread(generator.wide)
        self.limits = partial(LiveLimits, self.near, generator)


class BlockWeights:
    """A ``ConvNextBlock``'s weights."""

    def __init__(self, block: ConvNextBlock) -> None:
        taps = block.depthwise.weight.detach()[:, 0].T
        assert block.depthwise.bias is not None
        self.past: Array = taps[:-1].contiguous().numpy()
        self.newest: Array = taps[-1].contiguous().numpy()
        self.bias: Array = block.depthwise.bias.detach().numpy()
        expand, contract, scale = block.expand, block.contract, block.scale
        self.expand = RowProduct(*fold_norm(block.norm, expand.weight, expand.bias))
        self.contract = RowProduct(contract.weight * scale[:, None], contract.bias * scale)


class SpectralHop:
    """One stream: its past, and the places of all that is computed."""

    def __init__(self, weights: SpectralWeights) -> None:
        self._weights, self._seen = weights, 0
        self._degraded, self._noisy = Analysis(weights.analysis), Analysis(weights.analysis)
        self._powers, self._speech_power = np.zeros(LEVEL_FRAMES, np.float32), 0.0
        self._sums = np.zeros(BINS + 1)
        self._near, self._wide = LiveLevel(weights.near), LiveLevel(weights.wide)
        self._limit = weights.limits()
        self._embed, self._head = weights.embed.bind(), weights.head.bind()
        self._blocks = [BoundBlock(block) for block in weights.blocks]
        self._past_weights = np.stack([block.past for block in weights.blocks])
        self._past_biases = np.stack([block.bias for block in weights.blocks])
        self._past = np.zeros_like(self._past_weights)  # (blocks, frames, width)
        self._change: LiveSpectrum = np.zeros(BINS, np.complex64)
        self._to_wave, self._wave = torch.from_numpy(self._change), torch.zeros(N_FFT)
        self._overlap = np.zeros(HOP, np.float32)

    def __call__(self, hop: Array, noisy: Array | None) -> Array:
        """Return the restored ``(480,)``, a hop late, of degraded and noisy ones."""
        spectrum = self._degraded(hop)
        noisy_spectrum = None
        if self._weights.hears_noisy and noisy is not None:
            noisy_spectrum = self._noisy(noisy)
        power = bin_power(spectrum)
        hidden = self._embed_input(spectrum, power, noisy_spectrum)
        sums = np.add.reduce(self._past * self._past_weights, axis=1)
        sums += self._past_biases
        self._past[:, :-1] = self._past[:, 1:]
        for index, block in enumerate(self._blocks):
            self._past[index, -1] = hidden
            block(hidden, sums[index])
        normalise(hidden, self._head.inputs)
        self._head.run()
        add_up(power, self._sums)
        near = self._near(self._sums)
        self._correct(spectrum, near + np.float32(0.3) * self._wide(self._sums), noisy_spectrum)
        self._limit(self._change, spectrum, noisy_spectrum, near, self._speech_power)
        torch.fft.irfft(self._to_wave, N_FFT, out=self._wave)
        wave = self._wave.numpy() * self._weights.synthesis
        restored: Array = wave[:HOP] + self._overlap
        restored += self._degraded.past
        self._overlap = wave[HOP:]
        return restored

    def _embed_input(
        self, spectrum: LiveSpectrum, power: Array, noisy_spectrum: LiveSpectrum | None
    ) -> Array:
        """Return the body's input (width,)."""
        powers, inputs = self._powers, self._embed.inputs
        powers[:-1] = powers[1:]
        powers[-1] = np.add.reduce(power) / BINS
        self._seen = min(self._seen + 1, LEVEL_FRAMES)
        level = math.sqrt(max(float(np.add.reduce(powers)) / self._seen, LEVEL_FLOOR**2))
        self._speech_power = float(np.add.reduce(powers[-PAUSE_FRAMES:])) / PAUSE_FRAMES / level**2
        logs = logs_of(power, level)
        factor = logs * np.float32((COMPRESSION - 1) / 2)
        np.exp(factor, out=factor)
        factor /= np.float32(level)
        np.add(
            logs * np.float32(1 / 6), np.float32(-LOG_POWER_FLOOR / 6 - CENTRE), out=inputs[:BINS]
        )
        pairs = spectrum.view(np.float32).reshape(BINS, 2)
        np.multiply(pairs, factor[:, None], out=inputs[BINS : 3 * BINS].reshape(BINS, 2))
        if noisy_spectrum is not None:
            logs = logs_of(bin_power(noisy_spectrum), level)
            logs -= np.float32(LOG_POWER_FLOOR)
            np.divide(logs, np.float32(6), out=inputs[3 * BINS :])
        self._embed.run()
        hidden = np.empty_like(self._embed.outputs)
        normalise(self._embed.outputs, hidden)
        scale, offset = self._weights.norm
        hidden *= scale
        hidden += offset
        return hidden

    def _correct(
        self, spectrum: LiveSpectrum, local: Array, noisy_spectrum: LiveSpectrum | None
    ) -> None:
        """Compute ``spectral_change``, and the noisy signal's share, from the head's outputs."""
        change = self._change
        log_gain, rotation, add_real, add_imaginary, *share = self._head.outputs.reshape(-1, BINS)
        gain = log_gain * np.float32(1 / MAX_LOG_GAIN)
        tanh(gain)
        gain *= np.float32(MAX_LOG_GAIN)
        np.exp(gain, out=gain)
        np.multiply(gain, np.cos(rotation), out=change.real)
        change.real -= 1
        np.multiply(gain, np.sin(rotation), out=change.imag)
        change *= spectrum
        change.real += add_real * local
        change.imag += add_imaginary * local
        if noisy_spectrum is not None:
            change += noisy_spectrum * share[0]


class Analysis:
    """Spectra of one signal's hops; ``past`` is the hop before the last."""

    def __init__(self, window: NDArray[np.float64]) -> None:
        self._window, self._frame = window, np.zeros(N_FFT, np.float32)
        self._windowed = torch.zeros(N_FFT, dtype=torch.float64)
        self._exact = torch.zeros(BINS, dtype=torch.complex128)
        self.past: Array = self._frame[:HOP]

    def __call__(self, hop: Array) -> LiveSpectrum:
        """Return the spectrum ``(481,)`` of the last two hops."""
        frame = self._frame
        frame[:HOP] = frame[HOP:]
        frame[HOP:] = hop
        np.multiply(frame, self._window, out=self._windowed.numpy())
        torch.fft.rfft(self._windowed, out=self._exact)
        spectrum: LiveSpectrum = self._exact.numpy().astype(np.complex64)
        return spectrum


class BoundBlock:
    """``ConvNextBlock`` of one frame, whose past frames are summed already."""

    def __init__(self, weights: BlockWeights) -> None:
        self._newest = weights.newest
        self._expand, self._contract = weights.expand.bind(), weights.contract.bind()
        wide, narrow = (torch.from_numpy(a) for a in (self._expand.outputs, self._contract.inputs))
        self._activate = partial(F.gelu, wide, out=narrow)  # type: ignore[call-arg]

    def __call__(self, hidden: Array, past: Array) -> None:
        """Add the block's change to ``hidden`` (width,); ``past`` is overwritten."""
        past += hidden * self._newest
        normalise(past, self._expand.inputs)
        self._expand.run()
        self._activate()
        self._contract.run()
        hidden += self._contract.outputs


def fold_norm(norm: nn.LayerNorm, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight and bias of a linear layer that takes a norm's scale and offset over."""
    return weight.detach() * norm.weight.detach(), (bias + weight @ norm.bias).detach()


def normalise(x: Array, out: Array) -> None:
    """Put what a layer norm without scale and offset makes of ``(width,)`` into ``out``."""
    np.subtract(x, np.add.reduce(x) / np.float32(len(x)), out=out)
    variance = float(np.dot(out, out)) / len(x)
    out *= np.float32(1 / math.sqrt(variance + EPSILON))


def logs_of(power: Array, level: float) -> Array:
    """Return the logarithms of powers relative to a level's, from the floor on."""
    logs = power * np.float32(1 / level**2)
    np.maximum(logs, np.float32(FEATURE_FLOOR**2), out=logs)
    np.log(logs, out=logs)
    return logs
