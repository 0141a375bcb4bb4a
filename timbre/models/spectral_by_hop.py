"""The causal spectral generator hop by hop: what it needs of the past is carried from call to call."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timbre.audio import HOP
from timbre.audio.spectra import sine_window
from timbre.models.checks import check_causal
from timbre.models.levels import LEVEL_FLOOR, LEVEL_FRAMES, Levels, LocalLevel
from timbre.models.limits import PAUSE_FRAMES, removed_power
from timbre.models.spectral import (
    KERNEL,
    ConvNextBlock,
    SpectralGenerator,
    spectral_change,
    spectral_features,
)

BINS = HOP + 1
# The length of a frame's analysis in unit energy is the root of the hop.
SCALE = HOP**0.5


class SpectralState(NamedTuple):
    """What is carried from hop to hop; row i of each tensor belongs to stream i.

    degraded, noisy: (batch, 480) the last hops.
    powers: (batch, 199) of the last frames.
    near, wide: (batch, 4, 481) and (batch, 8, 481) powers of the last frames, spread over bins.
    removed: (batch, 4, 481) likewise, of what the denoiser removed; (batch, 0, 481) where the
        generator has no limit of the change.
    blocks: (batch, blocks, 6, width) what the blocks were given for the last frames.
    overlap: (batch, 480) second half of the last frame's change.
    seen: (batch,) int64, hops so far; below 0, hops before the signal are still to come.
    """

    degraded: Tensor
    noisy: Tensor
    powers: Tensor
    near: Tensor
    wide: Tensor
    removed: Tensor
    blocks: Tensor
    overlap: Tensor
    seen: Tensor


class SpectralByHop(nn.Module):
    """Restores a stream, any number of hops a call; shares the weights of a causal generator.

    Raises:
        ValueError: the generator looks ahead.
    """

    latency_samples = HOP
    window: Tensor
    real_edges: Tensor

    def __init__(self, generator: SpectralGenerator) -> None:
        super().__init__()
        check_causal(generator.latency_samples)
        self.generator = generator
        # Of one frame, an FFT is faster than the generator's product with 7 MB of cosines.
        self.register_buffer("window", sine_window(HOP).float(), persistent=False)
        real_edges = torch.ones(BINS)
        real_edges[[0, -1]] = 0
        self.register_buffer("real_edges", real_edges, persistent=False)

    def initial_state(self, batch: int = 1, wait_hops: int = 0) -> SpectralState:
        """Return the state before the first hop of ``batch`` streams.

        The first ``wait_hops`` hops, in calls of their own, must be silent and leave no trace.
        """
        generator = self.generator

        def zeros(*shape: int) -> Tensor:
            return self.window.new_zeros(batch, *shape)

        width, near = generator.embed.out_features, frames_of(generator.near) - 1
        return SpectralState(
            degraded=zeros(HOP),
            noisy=zeros(HOP),
            powers=zeros(LEVEL_FRAMES - 1),
            near=zeros(near, BINS),
            wide=zeros(frames_of(generator.wide) - 1, BINS),
            removed=zeros(near if generator.limits_change else 0, BINS),
            blocks=zeros(len(generator.blocks), KERNEL - 1, width),
            overlap=zeros(HOP),
            seen=self.window.new_full((batch,), -wait_hops, dtype=torch.int64),
        )

    def forward(
        self, hops: Tensor, state: SpectralState, noisy: Tensor | None = None
    ) -> tuple[Tensor, SpectralState]:
        """Return the restored ``(batch, hops * 480)``, late by ``latency_samples``, and the next state.

        Args:
            hops: ``(batch, hops * 480)`` of what the denoiser gave.
            state: from the call before.
            noisy: likewise what the denoiser was given, in time with ``hops``. Leaving it out means
                silence, in every call of a stream.
        """
        generator, count = self.generator, hops.shape[1] // HOP
        real, imaginary = self.analyse(state.degraded, hops)
        power = real.square() + imaginary.square()
        powers = torch.cat((state.powers, power.mean(dim=2)), dim=1)
        level = self.level(powers, state.seen)
        hidden = generator.embed(spectral_features(real, imaginary, level))
        path, noisy_spectrum = generator.noisy_path, None
        if path is not None and noisy is not None:
            noisy_spectrum = self.analyse(state.noisy, noisy)
            hidden = hidden + path(*noisy_spectrum, level)
        hidden = generator.embed_norm(hidden)
        pasts: list[Tensor] = []
        for block, past in zip(generator.blocks, state.blocks.unbind(1), strict=True):
            inputs = torch.cat((past, hidden), dim=1)
            pasts.append(inputs[:, count:])
            hidden = advance(block, inputs)  # type: ignore[arg-type]
        normed = generator.head_norm(hidden)
        near, near_past = local_level(generator.near, power, state.near)
        wide, wide_past = local_level(generator.wide, power, state.wide)
        change = spectral_change(real, imaginary, generator.head(normed), near + 0.3 * wide)
        if path is not None and noisy_spectrum is not None:
            share = path.share(normed)
            change = (change[0] + share * noisy_spectrum[0], change[1] + share * noisy_spectrum[1])
        removed, removed_past = None, state.removed
        if generator.limits_change and noisy_spectrum is not None:
            power = removed_power((real, imaginary), noisy_spectrum)
            removed, removed_past = local_level(generator.near, power, state.removed)
        speech = powers[:, -(count + PAUSE_FRAMES - 1) :].unfold(1, PAUSE_FRAMES, 1).mean(dim=2)
        levels = Levels(near, speech[:, :, None], level, removed)
        change = generator.limit(change, (real, imaginary), noisy_spectrum, levels)
        change_wave, overlap = self.synthesise(*change, state.overlap)
        late = torch.cat((state.degraded, hops), dim=1)
        is_begun = (state.seen + count > 0)[:, None, None, None]
        return late[:, :-HOP] + change_wave, SpectralState(
            degraded=late[:, -HOP:],
            noisy=state.noisy if noisy is None else noisy[:, -HOP:],
            powers=powers[:, count:],
            near=near_past,
            wide=wide_past,
            removed=removed_past,
            blocks=torch.stack(pasts, dim=1) * is_begun,
            overlap=overlap,
            seen=state.seen + count,
        )

    def analyse(self, past: Tensor, hops: Tensor) -> tuple[Tensor, Tensor]:
        """Return real and imaginary parts ``(batch, hops, 481)``; ``past`` is the hop before."""
        frames = torch.cat((past, hops), dim=1).unfold(1, 2 * HOP, HOP).double()
        # In double precision: what a float32 FFT does to bins 80 dB below the others is rounding of
        # 1e-3, which the network turns into a difference of 1e-5 to the generator's product.
        spectrum = torch.fft.rfft(frames * sine_window(HOP).to(frames.device)) / SCALE
        real, imaginary = torch.view_as_real(spectrum).to(hops.dtype).unbind(-1)
        return real, imaginary

    def synthesise(self, real: Tensor, imaginary: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(batch, hops * 480)``, a hop late, and the next ``overlap``."""
        spectrum = torch.view_as_complex(torch.stack((real, imaginary * self.real_edges), dim=3))
        frames = torch.fft.irfft(spectrum, 2 * HOP) * (self.window * SCALE)
        ends = torch.cat((overlap[:, None], frames[..., HOP:]), dim=1)
        return (frames[..., :HOP] + ends[:, :-1]).flatten(1), ends[:, -1]

    def level(self, powers: Tensor, seen: Tensor) -> Tensor:
        """Return :func:`trailing_level` of the frames behind the first 199 of ``powers``."""
        totals = powers.unfold(1, LEVEL_FRAMES, 1).sum(dim=2)
        index = torch.arange(1, totals.shape[1] + 1, device=powers.device)
        frames_so_far = (seen[:, None] + index).clamp(1, LEVEL_FRAMES)
        return torch.sqrt((totals / frames_so_far).clamp(min=LEVEL_FLOOR**2))[:, :, None]


def advance(block: ConvNextBlock, inputs: Tensor) -> Tensor:
    """Return a block's output ``(batch, frames, width)``; ``inputs`` begin six frames earlier."""
    mixed = block.depthwise(inputs.transpose(1, 2)).transpose(1, 2)
    change: Tensor = block.contract(F.gelu(block.expand(block.norm(mixed))))
    return inputs[:, KERNEL - 1 :] + block.scale * change


def local_level(around: LocalLevel, power: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """Return the level around each bin, and the powers spread over bins that come next time.

    Args:
        around: whose ``forward`` this is, of the frames one by one.
        power: ``(batch, frames, bins)``.
        past: ``(batch, past frames, bins)`` of earlier frames, spread over bins.
    """
    powers = torch.cat((past, around.over_bins(power[:, None])[:, 0]), dim=1)
    mean = around.over_frames(powers[:, None])[:, 0]
    return torch.sqrt(mean.clamp(min=1e-20)), powers[:, power.shape[1] :]


def frames_of(around: LocalLevel) -> int:
    """Return how many frames a level is the mean of."""
    return around.padding[2] + around.padding[3] + 1
