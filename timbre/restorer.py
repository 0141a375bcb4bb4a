"""DeepFilterNet3 and a generator as one thing to call: arrays, tensors, and signals in blocks."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import tee
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from timbre import blocks as cutting
from timbre import checkpoint, shipped
from timbre.chunks import denoise_blocks, generate_blocks, window_of
from timbre.denoise import DeepFilterNet3
from timbre.denoise.step import DenoiserStep
from timbre.errors import AudioError
from timbre.levels import ActiveLevel, gain
from timbre.models import Generator
from timbre.resampling import check_rates, resample_blocks, resampled_length
from timbre.waveform import SAMPLE_RATE, Wave

# Both networks see speech at the level that they were trained at.
WORKING_LEVEL_DB = -25.0
# A silent or nearly silent channel is not raised by more than this.
MAX_GAIN_DB = 60.0

# New samples that a generator is given at a time: what it hears besides is 2.5 s at most.
CHUNK_SECONDS = 15.0
# Samples that go from stage to stage.
BLOCK_SECONDS = 5.0
# Rows that are worked on together. On a CPU more were no faster, and would round otherwise than alone.
ROWS_ON_CPU, ROWS_ON_GPU = 1, 32

W = TypeVar("W", Wave, Tensor)
# Starts a signal from its beginning: blocks ``(channels, samples)``.
Source = Callable[[], Iterable[Wave]]


class Restored(NamedTuple):
    """Two waveforms of one shape: after the denoiser alone, and after the generator too."""

    denoised: Tensor
    restored: Tensor


class Wanted(NamedTuple):
    """What the output is made of.

    strength: the share of the correction; 0 gives the denoiser's output exactly.
    dry: the share of the input, in phase; 1 gives the input exactly.
    rate: of the output in Hz; None for that of the input.
    """

    strength: float = 1.0
    dry: float = 0.0
    rate: int | None = None


class Restorer:
    """DeepFilterNet3 and a generator, ready to be called.

    Args:
        generator: takes and gives ``(batch, 1, samples)`` at 48 kHz; None repairs nothing.
        denoiser: None where the input is denoised already.
        device: where both run.
        noisy_input: whether the generator also takes what the denoiser was given.

    Attributes:
        chunk_samples: how many new samples the generator is given at a time. It decides over memory
            and speed, not over the result.
    """

    def __init__(
        self,
        generator: Generator | None,
        denoiser: DeepFilterNet3 | None,
        device: str | torch.device = "cpu",
        noisy_input: bool = False,
    ) -> None:
        self.noisy_input = noisy_input
        self.device = torch.device(device)
        self.generator = generator.to(self.device) if generator else None
        self.step = DenoiserStep(denoiser).to(self.device).eval() if denoiser else None
        self.chunk_samples = round(CHUNK_SECONDS * SAMPLE_RATE)
        self._rows = ROWS_ON_CPU if self.device.type == "cpu" else ROWS_ON_GPU

    @classmethod
    def load(
        cls,
        checkpoint_url: str | None = shipped.OFFLINE,
        denoise: bool = True,
        denoiser_weights: str | None = None,
        device: str | None = None,
    ) -> "Restorer":
        """Return a restorer, on the GPU if there is one.

        Args:
            checkpoint_url: ``offline`` or ``causal`` for those that come with timbre; a path or URL;
                None for the denoiser alone.
            denoise: whether DeepFilterNet3 comes first.
            denoiser_weights: None for the official ones; see :mod:`timbre.denoise.weights`.
            device: as torch names it.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            CheckpointError: it is something else, or of another architecture.
        """
        generator, noisy_input = None, False
        if checkpoint_url:
            generator, config = checkpoint.load_generator(shipped.resolve(checkpoint_url))
            noisy_input = config.noisy_input
        denoiser = DeepFilterNet3.load(denoiser_weights) if denoise else None
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(generator, denoiser, device, noisy_input)

    def __call__(
        self,
        waveform: W,
        sample_rate: int,
        strength: float = 1.0,
        dry: float = 0.0,
        rate: int | None = None,
    ) -> W:
        """Return the waveform restored, float32 of the same shape, array or tensor like it.

        Args:
            waveform: ``(samples,)``, ``(channels, samples)`` or ``(batch, channels, samples)``, any
                float type, full scale at ±1; each row is treated alone.
            sample_rate: of the waveform, in Hz.
            strength: how much of the correction is applied; 0 gives the denoiser's output exactly.
            dry: how much of the input is mixed in, in phase; 1 gives the input.
            rate: of the result, in Hz, where it shall be another: then there are
                ``ceil(samples * rate / sample_rate)`` samples.

        Raises:
            AudioError: the waveform is empty, of another shape or type, or not finite; or a rate has
                no workable ratio to 48 kHz.
        """
        array = waveform.detach().cpu().numpy() if isinstance(waveform, Tensor) else waveform
        check_waveform(array)
        rows = array.reshape(-1, array.shape[-1]).astype(np.float32)
        wanted = Wanted(strength, dry, rate)
        made = self.blocks(
            lambda: cutting.split(rows, block_size(sample_rate)), sample_rate, wanted
        )
        result = np.concatenate(list(made), axis=1).reshape(*array.shape[:-1], -1)
        if isinstance(waveform, Tensor):
            return torch.from_numpy(result).to(waveform.device)
        return result

    def blocks(self, source: Source, sample_rate: int, wanted: Wanted) -> Iterator[Wave]:
        """Yield a signal of any length restored, in blocks ``(channels, samples)``.

        It is read twice: the level of the whole comes first. In memory there is a chunk of it, and 8
        bytes for each 20 ms of a channel.

        Args:
            source: gives the signal's blocks, of any lengths; called twice.
            sample_rate: of the signal, in Hz.
            wanted: what is made of it.

        Raises:
            AudioError: a rate has no workable ratio to 48 kHz. Also what ``source`` raises.
        """
        check_wanted(wanted, sample_rate)
        rate = wanted.rate or sample_rate
        samples, gains = measure(source(), sample_rate)
        total = resampled_length(samples, sample_rate, rate)
        blocks, again = tee(source()) if wanted.dry else (iter(source()), None)
        at_48_khz = (torch.from_numpy(b) for b in resample_blocks(blocks, sample_rate, SAMPLE_RATE))
        wet = self._mixed(at_48_khz, gains, wanted.strength)
        result = cutting.cut(resample_blocks(wet, SAMPLE_RATE, rate), total)
        if again is None:
            yield from result
            return
        dry = cutting.cut(resample_blocks(again, sample_rate, rate), total)
        for one, other in cutting.aligned(result, dry, block_size(rate)):
            yield (1 - wanted.dry) * one + wanted.dry * other

    def process(self, waves: Tensor, noisy: Tensor | None = None) -> Restored:
        """Return ``(batch, samples)`` at 48 kHz denoised and restored, each row alone, on the CPU.

        Args:
            waves: the denoiser's input, or without a denoiser its output.
            noisy: ``(batch, samples)``, without a denoiser: its input in time with ``waves``, where
                it is known, for a generator with ``noisy_input``.
        """
        signals = waves[None] if noisy is None else torch.stack([waves, noisy])
        _, gains = measure([waves.cpu().numpy()], SAMPLE_RATE)
        blocks = torch.split(signals, block_size(SAMPLE_RATE), dim=2)
        return Restored(*torch.cat(list(self._repaired(blocks, gains, True)), dim=2).clone())

    def _mixed(self, blocks: Iterable[Tensor], gains: Tensor, strength: float) -> Iterator[Wave]:
        # Without a correction there is no need to compute it.
        for denoised, restored in self._repaired((b[None] for b in blocks), gains, strength != 0):
            yield (denoised + strength * (restored - denoised)).numpy()

    def _repaired(self, blocks: Iterable[Tensor], gains: Tensor, repair: bool) -> Iterator[Tensor]:
        """Yield ``(2, rows, samples)``, denoised and restored, of ``(signals, rows, samples)``.

        Args:
            blocks: what the first stage hears; a second signal is the denoiser's input.
            gains: ``(rows, 1)``.
            repair: False gives the denoised signal twice.
        """
        groups = torch.split(torch.arange(len(gains)), self._rows)
        copies = tee(blocks, len(groups))
        parts = [
            self._stages(copy, group, gains[group].to(self.device), repair)
            for copy, group in zip(copies, groups, strict=True)
        ]
        for together in zip(*parts, strict=True):
            yield torch.cat(together, dim=1)

    def _stages(
        self, blocks: Iterable[Tensor], rows: Tensor, gains: Tensor, repair: bool
    ) -> Iterator[Tensor]:
        signals: Iterable[Tensor] = (block[:, rows].to(self.device) * gains for block in blocks)
        if self.step is not None:
            signals = denoise_blocks(self.step, (block[0] for block in signals))
        if self.generator is not None and repair:
            reach = self.generator.history_samples, self.generator.latency_samples
            window = window_of(self.chunk_samples, *reach)
            signals = generate_blocks(self._generate, signals, window)
        else:
            signals = (torch.stack([block[0], block[0]]) for block in signals)
        return ((block / gains).cpu() for block in signals)

    @torch.inference_mode()
    def _generate(self, signals: Tensor) -> Tensor:
        assert self.generator is not None
        heard = signals[1][:, None] if self.noisy_input and len(signals) > 1 else None
        restored: Tensor = self.generator(signals[0][:, None], heard)
        return restored[:, 0]


def measure(blocks: Iterable[Wave], sample_rate: int) -> tuple[int, Tensor]:
    """Return a signal's length and the gain ``(rows, 1)`` that brings each row to the working level."""
    samples = 0

    def counted() -> Iterator[Wave]:
        nonlocal samples
        for block in blocks:
            samples += block.shape[1]
            yield block

    meter = ActiveLevel()
    for block in resample_blocks(counted(), sample_rate, SAMPLE_RATE):
        meter.add(block)
    raised = [min(WORKING_LEVEL_DB - level, MAX_GAIN_DB) for level in meter.level_db()]
    return samples, torch.tensor([[gain(decibel)] for decibel in raised])


def check_waveform(array: Wave) -> None:
    """Raise AudioError for what is no waveform."""
    finite = np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all()
    if array.ndim not in (1, 2, 3) or array.size == 0 or not finite:
        raise AudioError(
            f"waveform of shape {array.shape} and type {array.dtype}: expected finite floats "
            "(samples,), (channels, samples) or (batch, channels, samples)"
        )


def check_wanted(wanted: Wanted, sample_rate: int) -> None:
    """Raise AudioError for shares beyond 0 to 1, and for rates that cannot be brought together."""
    for name, share in (("strength", wanted.strength), ("dry", wanted.dry)):
        if not 0 <= share <= 1:
            raise AudioError(f"{name} {share}: expected 0 to 1")
    rate = sample_rate if wanted.rate is None else wanted.rate
    for hertz in (sample_rate, rate):
        if hertz < 1 or not math.isfinite(hertz):
            raise AudioError(f"sample rate {hertz} Hz: expected a whole number of at least 1")
        check_rates(hertz, SAMPLE_RATE)
    check_rates(sample_rate, rate)


def block_size(sample_rate: int) -> int:
    """Return how many samples go from stage to stage at a rate."""
    return max(round(BLOCK_SECONDS * sample_rate), 1)
