"""The causal spectral generator of a single hop on a CPU, with as few and as cheap operations as possible."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timbre.models.spectral import (
    CENTRE,
    FEATURE_FLOOR,
    HOP,
    LEVEL_FLOOR,
    LEVEL_FRAMES,
    MAX_LOG_GAIN,
    ConvNextBlock,
    LocalLevel,
)
from timbre.models.spectral_step import BINS, SCALE, SpectralState, SpectralStep
from timbre.row_product import RowProduct
from timbre.spectral import COMPRESSION

LOG_POWER_FLOOR = 2 * math.log(FEATURE_FLOOR)
# What `F.layer_norm` takes besides its input.
Norm = tuple[tuple[int, ...], Tensor, Tensor, float]


class FastSpectralStep:
    """`SpectralStep` with another way for single hops; states are the same.

    Takes the weights as they are now, and copies most of them.
    """

    def __init__(self, step: SpectralStep) -> None:
        self.step, self.latency_samples = step, step.latency_samples
        generator, path = step.generator, step.generator.noisy_path
        self._analysis, self._synthesis = step.window / SCALE, step.window * SCALE
        levels, real, imaginary = generator.embed.weight.detach().chunk(3, dim=1)
        # Real and imaginary parts side by side, as complex numbers lie in memory.
        columns = [levels, torch.stack((real, imaginary), dim=2).flatten(1)]
        rows, biases = [generator.head.weight.detach()], [generator.head.bias.detach()]
        self._hears_noisy = path is not None
        if path is not None:
            columns.append(path.embed.weight.detach())
            rows.append(path.share.weight.detach())
            biases.append(path.share.bias.detach())
        self._embed = RowProduct(torch.cat(columns, dim=1), generator.embed.bias)
        self._head = RowProduct(torch.cat(rows), torch.cat(biases))
        self._embed_norm, self._head_norm = _norm(generator.embed_norm), _norm(generator.head_norm)
        blocks: list[ConvNextBlock] = list(generator.blocks)  # type: ignore[arg-type]
        weights = [block.depthwise.weight.detach()[:, 0].T for block in blocks]
        self._past = torch.stack([weight[:-1] for weight in weights])
        biases = [bias.detach() for block in blocks if (bias := block.depthwise.bias) is not None]
        self._past_bias = torch.stack(biases)
        self._blocks = [FastBlock(block) for block in blocks]

    def initial_state(self, batch: int) -> SpectralState:
        """Return the state before the first hop of ``batch`` streams."""
        return self.step.initial_state(batch)

    def __call__(
        self, hops: Tensor, state: SpectralState, noisy: Tensor | None = None
    ) -> tuple[Tensor, SpectralState]:
        """Return what :meth:`SpectralStep.forward` does, to rounding."""
        if hops.shape[1] != HOP:
            result: tuple[Tensor, SpectralState] = self.step(hops, state, noisy)
            return result
        heard = torch.zeros_like(hops) if noisy is None else noisy
        pasts, news = [state.degraded], [hops]
        if self._hears_noisy:
            pasts, news = [*pasts, state.noisy], [*news, heard]
        frames = torch.cat((torch.cat(pasts), torch.cat(news)), dim=1)
        spectra = torch.fft.rfft(frames * self._analysis).unflatten(0, (-1, len(hops)))
        pairs = torch.view_as_real(spectra)
        powers = (pairs * pairs).sum(3)
        frame_powers = torch.cat((state.powers, powers[0].mean(1, keepdim=True)), dim=1)
        level = self._level(frame_powers, state.seen)
        hidden = self._embedded(pairs[0], powers, level)
        inputs: list[Tensor] = []
        past_sums = (state.blocks * self._past).sum(2).add_(self._past_bias)
        for block, past in zip(self._blocks, past_sums.unbind(1), strict=True):
            inputs.append(hidden)
            hidden = block(hidden, past)
        head = self._head(F.layer_norm(hidden, *self._head_norm)).view(len(hops), -1, BINS)
        near, near_past = _local(self.step.generator.near, powers[0], state.near)
        wide, wide_past = _local(self.step.generator.wide, powers[0], state.wide)
        change = _change(spectra, head, torch.add(near, wide, alpha=0.3))
        wave = torch.fft.irfft(change, 2 * HOP).mul_(self._synthesis)
        newest = torch.stack(inputs, dim=1)[:, :, None]
        blocks = torch.cat((state.blocks[:, :, 1:], newest), dim=2)
        return wave[:, :HOP].add_(state.overlap).add_(state.degraded), SpectralState(
            degraded=hops,
            noisy=heard,
            powers=frame_powers[:, 1:],
            near=near_past,
            wide=wide_past,
            blocks=blocks,
            overlap=wave[:, HOP:],
            seen=state.seen + 1,
        )

    def _level(self, powers: Tensor, seen: Tensor) -> Tensor:
        """Return the level ``(batch, 1)`` of the last ``(batch, 200)`` frames' powers."""
        counted = (seen + 1).clamp_(1, LEVEL_FRAMES)
        return (powers.sum(1) / counted).clamp_(min=LEVEL_FLOOR**2).sqrt_()[:, None]

    def _embedded(self, pairs: Tensor, powers: Tensor, level: Tensor) -> Tensor:
        """Return the body's input ``(batch, width)``."""
        logs = (powers / (level * level)).clamp_(min=FEATURE_FLOOR**2).log_()
        factor = (logs[0] * ((COMPRESSION - 1) / 2)).exp_() / level
        seen_levels = (logs - LOG_POWER_FLOOR).div_(6)
        features = [seen_levels[0] - CENTRE, (pairs * factor[..., None]).flatten(1)]
        if self._hears_noisy:
            features.append(seen_levels[1])
        return F.layer_norm(self._embed(torch.cat(features, dim=1)), *self._embed_norm)


class FastBlock:
    """`ConvNextBlock` of one frame, whose past frames are summed already."""

    def __init__(self, block: ConvNextBlock) -> None:
        scale = block.scale.detach()
        self._newest = block.depthwise.weight.detach()[:, 0, -1].contiguous()
        self._norm = _norm(block.norm)
        self._expand = RowProduct(block.expand.weight, block.expand.bias)
        self._contract = RowProduct(
            block.contract.weight * scale[:, None], block.contract.bias * scale
        )

    def __call__(self, hidden: Tensor, past: Tensor) -> Tensor:
        """Return ``(batch, width)`` of the same, and of what the depth-wise layer makes of the past."""
        mixed = F.layer_norm(torch.addcmul(past, hidden, self._newest), *self._norm)
        return self._contract(F.gelu(self._expand(mixed))).add_(hidden)


def _norm(layer: nn.LayerNorm) -> Norm:
    return layer.normalized_shape, layer.weight.detach(), layer.bias.detach(), layer.eps


def _local(around: LocalLevel, power: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``local_level`` does, of one frame: level ``(batch, bins)`` and the next past."""
    spread = torch.cat((past, around.over_bins(power[:, None])), dim=1)
    return spread.mean(1).clamp_(min=1e-20).sqrt_(), spread[:, 1:]


def _change(spectra: Tensor, head: Tensor, local: Tensor) -> Tensor:
    """Return what ``spectral_change`` does, complex ``(batch, bins)``, and the noisy signal's share."""
    log_gain, rotation, add_real, add_imaginary, *share = head.unbind(1)
    gain = (log_gain / MAX_LOG_GAIN).tanh_().mul_(MAX_LOG_GAIN).exp_()
    change = (torch.polar(gain, rotation) - 1) * spectra[0]
    change += torch.complex(add_real * local, add_imaginary * local)
    if share:
        change += spectra[1] * share[0]
    return change
