"""A denoiser and a generator as one thing to call: arrays, tensors, and signals in blocks."""

from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from timbre.audio import (
    SAMPLE_RATE,
    Wave,
    first_samples,
    resample_blocks,
    resampled_length,
    side_by_side,
    split,
    working_level,
)
from timbre.denoise import DeepFilterNet3, Denoiser, as_denoiser
from timbre.denoiser_names import NONE
from timbre.models import OFFLINE, Generator, load_checkpoint, strangeness
from timbre.restore.channels import Channels
from timbre.restore.chunks import denoise_blocks, denoise_whole, generate_blocks, window_of
from timbre.restore.output import (
    FULL_OUTPUT,
    Output,
    block_size,
    check_finite,
    check_output_rates,
    check_waveform,
)
from timbre.restore.stereo import link_blocks
from timbre.torch_settings import usable_device

# A generator takes this many times its context at once; the context is the cost of cutting. Up to 25 s.
CHUNK_CONTEXTS = 10
# From this many rows on a row gets less at a time, as all rows wait together.
MANY_ROWS = 4
# Rows that are worked on together. On a CPU more were no faster, and would round otherwise than alone.
ROWS_ON_CPU, ROWS_ON_GPU = 1, 8

W = TypeVar("W", Wave, Tensor)
# Starts a signal from its beginning: blocks ``(channels, samples)``.
Blocks = Callable[[], Iterable[Wave]]


class BothWaves(NamedTuple):
    """Two waveforms of one shape: after the denoiser alone, and after the generator too."""

    denoised: Tensor
    restored: Tensor


class Restorer:
    """A denoiser and a generator, ready to be called.

    Args:
        generator: maps ``(batch, 1, samples)`` at 48 kHz to the same shape; None repairs nothing.
        denoiser: None where the input is denoised already. One that has no hops (``by_hop``) takes
            a whole signal at once, and so much of memory.
        device: where both run.
        noisy_input: whether the generator also takes the denoiser's input.

    Attributes:
        warning: what a user should know of the two together; None: nothing.
        chunk_samples: how many new samples the generator takes at a time. This changes memory and
            speed, not the result.
    """

    def __init__(
        self,
        generator: Generator | None,
        denoiser: DeepFilterNet3 | Denoiser | None,
        device: str | torch.device = "cpu",
        noisy_input: bool = False,
    ) -> None:
        self.noisy_input = noisy_input
        self.device = torch.device(device)
        self.generator = generator.to(self.device) if generator else None
        self.denoiser = as_denoiser(denoiser or False)
        self.warning: str | None = None
        self._step = self.denoiser.by_hop() if self.denoiser else None
        if isinstance(self._step, nn.Module):
            self._step.to(self.device)
        self.chunk_samples = block_size(SAMPLE_RATE)
        if generator:
            context = generator.history_samples + generator.latency_samples
            self.chunk_samples = max(self.chunk_samples, CHUNK_CONTEXTS * context)
        self._rows = ROWS_ON_CPU if self.device.type == "cpu" else ROWS_ON_GPU

    @classmethod
    def load(
        cls,
        checkpoint_url: str | Path | None = OFFLINE,
        denoise: bool | str | DeepFilterNet3 | Denoiser = True,
        denoiser_weights: str | None = None,
        device: str | None = None,
        max_lift_db: float | None = None,
    ) -> "Restorer":
        """Return a restorer, on the GPU if there is one.

        Args:
            checkpoint_url: ``offline`` or ``causal`` for those that come with timbre; a path or URL;
                ``hf://USER/REPOSITORY[@REVISION][#sha256=HASH]`` for a release on the Hugging Face
                Hub; None for the denoiser alone.
            denoise: what comes first: True for DeepFilterNet3, False for nothing, one of
                :mod:`timbre.denoiser_names`, or a denoiser that is loaded already.
            denoiser_weights: of a DeepFilterNet3; None for the official ones; see
                :mod:`timbre.denoise.weights`.
            device: as torch names it.
            max_lift_db: how far the output may rise above the denoiser's around a bin, in place of
                the checkpoint's own limit; None keeps that. For spectral generators.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            CheckpointError: it is something else, of another architecture, or has weights that are
                not finite.
            ConfigError: the device is not there, the denoiser cannot be used, or the generator
                cannot have this limit.
            MissingPackageError: the denoiser's package is not installed, or that of the Hub.
            StoreError: the Hub cannot be reached, or its file has another hash.
        """
        denoiser = as_denoiser(denoise, denoiser_weights)
        if not checkpoint_url:
            return cls(None, denoiser, usable_device(device))
        checkpoint = load_checkpoint(str(checkpoint_url), max_lift_db)
        noisy_input = checkpoint.config.noisy_input
        restorer = cls(checkpoint.generator, denoiser, usable_device(device), noisy_input)
        name = denoiser.name if denoiser else NONE
        restorer.warning = strangeness(str(checkpoint_url), checkpoint.denoisers, name)
        return restorer

    def __call__(  # noqa: PLR0913
        self,
        waveform: W,
        sample_rate: int,
        strength: float = 1.0,
        dry: float = 0.0,
        rate: int | None = None,
        link: bool | None = None,
        attenuation_limit_db: float = 0.0,
    ) -> W:
        """Return the waveform restored, float32 of the same shape, array or tensor like it.

        Args:
            waveform: ``(samples,)``, ``(channels, samples)`` or ``(batch, channels, samples)``, any
                float type, full scale at ±1; each row is treated alone, but for two linked channels.
            sample_rate: of the waveform, in Hz.
            strength: how much of the correction is applied; 0 gives the denoiser's output exactly.
            dry: how much of the input is mixed in, in phase; 1 gives the input.
            rate: of the result, in Hz, if it is to be another than the waveform's; then there are
                ``ceil(samples * rate / sample_rate)`` samples.
            link: True links two channels, so that the voice stays where it is; False restores them
                apart; None links those that are alike (see :class:`timbre.restore.channels.Likeness`).
            attenuation_limit_db: see :class:`timbre.restore.output.Output`.

        Raises:
            AudioError: the waveform is empty, of another shape or type, or not finite; a rate has no
                workable ratio to 48 kHz; or what came out is not finite.
        """
        array = waveform.detach().cpu().numpy() if isinstance(waveform, Tensor) else waveform
        check_waveform(array)
        rows = array.reshape(-1, array.shape[-1]).astype(np.float32)
        blocks = self.blocks(
            lambda: split(rows, block_size(sample_rate)),
            sample_rate,
            Output(strength, dry, link=link, attenuation_limit_db=attenuation_limit_db),
            rate,
            channels=array.shape[-2] if array.ndim > 1 else 1,
        )
        result = np.concatenate(list(blocks), axis=1).reshape(*array.shape[:-1], -1)
        if isinstance(waveform, Tensor):
            return torch.from_numpy(result).to(waveform.device)
        return result

    def blocks(
        self,
        source: Blocks,
        sample_rate: int,
        output: Output = FULL_OUTPUT,
        rate: int | None = None,
        channels: int | None = None,
    ) -> Iterator[Wave]:
        """Yield a signal of any length restored, in blocks ``(channels, samples)``.

        The signal is read twice, as the level of the whole comes first, and a constant offset, which
        the networks would take for sound. In memory there is a chunk of it, and 16 bytes for each
        20 ms of a channel.

        Args:
            source: starts the signal: blocks of any lengths. It is called twice.
            sample_rate: of the signal, in Hz.
            output: the shares of the result.
            rate: of the result, in Hz; None for that of the signal.
            channels: of each signal, where the rows are those of several; None for all rows.

        Raises:
            AudioError: a rate has no workable ratio to 48 kHz, or what came out is not finite. Also
                what ``source`` raises.
        """
        rate = sample_rate if rate is None else rate
        check_output_rates(sample_rate, rate)
        look = Channels(sample_rate, channels, output.link)
        samples, gains, offsets = working_level(look.watch(source()), sample_rate)
        total = resampled_length(samples, sample_rate, rate)
        blocks, again = tee(source()) if output.input_share else (iter(source()), None)
        # Equal channels are restored once.
        different = (block[look.rows] for block in blocks)
        centred = _centre(different, offsets[look.rows].numpy())
        at_48_khz = resample_blocks(centred, sample_rate, SAMPLE_RATE)
        wet = self._wet(at_48_khz, gains[look.rows], output.strength, look.pairs)
        spread = (block[look.spread] for block in resample_blocks(wet, SAMPLE_RATE, rate))
        result = first_samples(spread, total)
        if again is None:
            yield from result
            return
        dry = first_samples(resample_blocks(again, sample_rate, rate), total)
        for one, other in side_by_side(result, dry, block_size(rate)):
            yield (1 - output.input_share) * one + output.input_share * other

    def process(self, waves: Tensor, noisy: Tensor | None = None) -> BothWaves:
        """Return ``(batch, samples)`` at 48 kHz denoised and restored, each row alone, on the CPU.

        Args:
            waves: the denoiser's input, or without a denoiser its output.
            noisy: ``(batch, samples)``, without a denoiser: its input in time with ``waves``, where
                it is known, for a generator with ``noisy_input``.
        """
        _, gains, offsets = working_level([waves.cpu().numpy()], SAMPLE_RATE)
        if offsets.any():
            waves = waves - offsets.to(waves.device)
        signals = waves[None] if noisy is None else torch.stack([waves, noisy])
        blocks = torch.split(signals, block_size(SAMPLE_RATE), dim=2)
        return BothWaves(*torch.cat(list(self._repaired(blocks, gains, True)), dim=2).clone())

    def _wet(
        self, blocks: Iterable[Wave], gains: Tensor, strength: float, pairs: list[int]
    ) -> Iterator[Wave]:
        """Yield ``(rows, any)`` denoised and repaired; ``pairs`` are the first of two linked rows."""
        blocks, noisy = tee(blocks) if pairs else (blocks, None)
        wet = self._mixed((torch.from_numpy(block) for block in blocks), gains, strength)
        return wet if noisy is None else link_blocks(wet, noisy, pairs)

    def _mixed(self, blocks: Iterable[Tensor], gains: Tensor, strength: float) -> Iterator[Wave]:
        # Without a correction there is no need to compute it.
        for denoised, restored in self._repaired((b[None] for b in blocks), gains, strength != 0):
            yield check_finite((denoised + strength * (restored - denoised)).numpy())

    def _repaired(self, blocks: Iterable[Tensor], gains: Tensor, repair: bool) -> Iterator[Tensor]:
        """Yield ``(2, rows, samples)``, denoised and restored, of ``(signals, rows, samples)``.

        Args:
            blocks: the first stage's input; a second signal is the denoiser's input.
            gains: ``(rows, 1)``.
            repair: False gives the denoised signal twice.
        """
        groups = torch.split(torch.arange(len(gains)), self._rows)
        copies = tee(blocks, len(groups))
        parts = [
            self._stages(copy, group, gains, repair)
            for copy, group in zip(copies, groups, strict=True)
        ]
        for together in zip(*parts, strict=True):
            yield torch.cat(together, dim=1)

    def _stages(
        self, blocks: Iterable[Tensor], rows: Tensor, gains: Tensor, repair: bool
    ) -> Iterator[Tensor]:
        gain = gains[rows].to(self.device)
        signals: Iterable[Tensor] = (block[:, rows].to(self.device) * gain for block in blocks)
        if self._step is not None:
            signals = denoise_blocks(self._step, (block[0] for block in signals))
        elif self.denoiser is not None:
            signals = denoise_whole(self.denoiser, (block[0] for block in signals))
        if self.generator is not None and repair:
            # Every row holds a chunk.
            samples = self.chunk_samples // max(len(gains) // MANY_ROWS, 1)
            reach = self.generator.history_samples, self.generator.latency_samples
            signals = generate_blocks(self._generate, signals, window_of(samples, *reach))
        else:
            signals = (torch.stack([block[0], block[0]]) for block in signals)
        return ((block / gain).cpu() for block in signals)

    @torch.inference_mode()
    def _generate(self, signals: Tensor) -> Tensor:
        assert self.generator is not None
        noisy = signals[1][:, None] if self.noisy_input and len(signals) > 1 else None
        restored: Tensor = self.generator(signals[0][:, None], noisy)
        return restored[:, 0]


def _centre(blocks: Iterable[Wave], offsets: Wave) -> Iterable[Wave]:
    """Return blocks ``(rows, samples)`` less each row's offset ``(rows, 1)``; as they are without."""
    return (block - offsets for block in blocks) if offsets.any() else blocks
