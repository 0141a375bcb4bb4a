"""A denoiser and a causal generator on a live signal, in pieces of any size."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timbre.audio import HOP, SAMPLE_RATE, Wave, from_int16, gain, resample_blocks
from timbre.denoise import ByHop, DeepFilterNet3, Denoiser, Df3, as_denoiser
from timbre.denoiser_names import BY_HOP, NONE
from timbre.errors import AudioError, CheckpointError, ConfigError
from timbre.models import CAUSAL, Generator, load_checkpoint, strangeness
from timbre.models.spectral import SpectralGenerator
from timbre.models.wave_by_hop import WaveByHop
from timbre.restore.hop_runner import HopRunner
from timbre.restore.live.denoiser import LiveDenoiser
from timbre.restore.live.offset import OffsetRemover
from timbre.restore.live.spectral import LiveSpectral
from timbre.restore.live.wave import LiveWave
from timbre.restore.output import Output, check_finite
from timbre.restore.stereo import LinkByHop


@dataclass(frozen=True)
class Mix(Output):
    """The shares that a live signal is made of, and its gain.

    Attributes:
        input_gain_db: raises the signal before the networks and lowers it behind them. They were
            trained on voices at -25 dBFS, and the level of what is still to come is not known: use
            -25 minus the level of your voice. Unraised, voices from -35 to -15 dBFS do well.

    Raises:
        AudioError: a share is not between 0 and 1, or the gain is beyond 100 dB.
    """

    input_gain_db: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.input_gain_db) and abs(self.input_gain_db) <= 100):
            raise AudioError(f"input_gain_db {self.input_gain_db}: expected -100 to 100")


FULL_MIX = Mix()


class LiveRestorer:
    """Restores one live signal at 48 kHz; what comes out lines up with what went in.

    All that comes out, one piece behind the other, is as long as all that went in, and equals what
    both networks give of the whole signal at that gain, to rounding, however it is cut. Of a signal
    with a constant offset it is what they give without it. It runs on the CPU.

    Args:
        generator: a causal one; None repairs nothing.
        denoiser: one that works hop by hop; None where the input is denoised already.
        noisy_input: whether the generator also takes what the denoiser was given.
        channels: rows of the pieces; each is treated alone, but two are linked as ``mix.link`` says:
            where that is None, while they were alike for some seconds.
        mix: what the signal is made into.

    Attributes:
        latency_samples: output sample n is out as soon as input sample n + latency_samples is in, or
            sooner: 2399 (50 ms) with a spectral generator, 1919 (40 ms) with a wave generator or
            none, both 1440 less without the denoiser, and 480 less behind RNNoise; 480 more with two
            channels, unless ``mix.link`` is False. The time to compute a hop comes on top.
        warning: what a user should know of denoiser and generator together; None: nothing.

    Raises:
        ValueError: the generator looks ahead.
        ConfigError: the denoiser takes whole signals.
    """

    def __init__(
        self,
        generator: Generator | None,
        denoiser: DeepFilterNet3 | Denoiser | None,
        noisy_input: bool = False,
        channels: int = 1,
        mix: Mix = FULL_MIX,
    ) -> None:
        self._mix, self._gain = mix, gain(mix.input_gain_db)
        self._channels = channels
        self._hears_noisy = noisy_input and denoiser is not None
        self.warning: str | None = None
        denoise = denoise_live(denoiser) if denoiser else None
        repair = build_live(generator) if generator else None
        self._denoise = HopRunner(denoise, channels) if denoise else None
        self._repair = HopRunner(repair, channels) if repair else None
        link = None
        if channels == 2 and mix.link is not False and (denoise or repair):
            link = LinkByHop(when_alike=mix.link is None)
        self._link = HopRunner(link, channels) if link else None
        late = [step.latency_samples for step in (denoise, repair, link) if step is not None]
        self.latency_samples = sum(late) + HOP - 1 if late else 0
        self._centre = OffsetRemover(channels) if late else None
        self._is_over = False
        # What went in and what was denoised, until what they belong to comes out.
        self._noisy_queue = self._input_queue = torch.zeros(channels, 0)
        self._denoised_queue = self._linked_queue = torch.zeros(channels, 0)

    @classmethod
    def load(
        cls,
        checkpoint_url: str | None = CAUSAL,
        denoise: bool | str | DeepFilterNet3 | Denoiser = True,
        channels: int = 1,
        mix: Mix = FULL_MIX,
        max_lift_db: float | None = None,
    ) -> "LiveRestorer":
        """Return a restorer from a checkpoint.

        Args:
            checkpoint_url: ``causal`` for the one that comes with timbre; a path or URL, ``hf://`` among
                them; None for the denoiser alone.
            denoise: what comes first: True for DeepFilterNet3, False for nothing, one of
                :mod:`timbre.denoiser_names`, or a denoiser that is loaded already.
            channels: of the signal.
            mix: what the signal is made into.
            max_lift_db: how far the output may rise above the denoiser's around a bin, in place of
                the checkpoint's own limit; None keeps that. For spectral generators.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            CheckpointError: it is something else, its weights are not finite, or its generator looks
                ahead.
            ConfigError: the generator cannot have this limit, or the denoiser cannot be used live.
            MissingPackageError: the denoiser's package is not installed.
        """
        denoiser = as_denoiser(denoise)
        if not checkpoint_url:
            return cls(None, denoiser, False, channels, mix)
        generator, config, denoisers = load_checkpoint(checkpoint_url, max_lift_db)
        if not config.causal:
            raise CheckpointError(
                f"{checkpoint_url}: its generator looks ahead and cannot take a live signal; "
                "expected one trained with generator.causal: true"
            )
        restorer = cls(generator, denoiser, config.noisy_input, channels, mix)
        name = denoiser.name if denoiser else NONE
        restorer.warning = strangeness(checkpoint_url, denoisers, name)
        return restorer

    def push(self, piece: NDArray[np.generic]) -> Wave:
        """Return what has become ready, ``(channels, any)``.

        Args:
            piece: the next ``(channels, any)``: floats in [-1, 1], or int16 as sound cards give them.

        Raises:
            AudioError: the piece has other channels or another type, or is not finite; the signal is
                over; or what came out is not finite.
        """
        if self._is_over:
            raise AudioError(
                "a piece behind the end: flush() was the last; expected a new restorer"
            )
        return self._advance(torch.from_numpy(_to_float32(piece, self._channels)), is_last=False)

    def flush(self) -> Wave:
        """Return the rest, ``(channels, any)``; the signal is over, and later calls give nothing."""
        if self._is_over:
            return np.zeros((self._channels, 0), np.float32)
        self._is_over = True
        return self._advance(torch.zeros(self._channels, 0), is_last=True)

    @torch.inference_mode()
    def _advance(self, piece: Tensor, is_last: bool) -> Wave:
        # Most hops come with nothing to raise and nothing to mix.
        louder = piece if self._gain == 1 else piece * self._gain
        if self._centre is not None:
            louder = torch.from_numpy(self._centre.push(louder.numpy()))
            if is_last:
                louder = torch.cat((louder, torch.from_numpy(self._centre.flush())), dim=1)
        denoised = louder
        if self._denoise is not None:
            denoised = _through(self._denoise, [louder], is_last)
        signals = [denoised]
        if self._hears_noisy:
            noisy, self._noisy_queue = _take(self._noisy_queue, louder, denoised.shape[1])
            signals.append(noisy)
        restored = denoised
        if self._repair is not None:
            restored = _through(self._repair, signals, is_last)
        if self._mix.strength != 1:
            base, self._denoised_queue = _take(self._denoised_queue, denoised, restored.shape[1])
            restored = base + self._mix.strength * (restored - base)
        if self._link is not None:
            noisy, self._linked_queue = _take(self._linked_queue, louder, restored.shape[1])
            restored = _through(self._link, [restored, noisy], is_last)
        if self._gain != 1:
            restored = restored / self._gain
        if share := self._mix.input_share:
            dry, self._input_queue = _take(self._input_queue, piece, restored.shape[1])
            restored = (1 - share) * restored + share * dry
        result: Wave = restored.numpy()
        return check_finite(result)


def denoise_live(denoiser: DeepFilterNet3 | Denoiser) -> ByHop:
    """Return a denoiser for a hop or a few at a time on a CPU, with its weights of now.

    Raises:
        ConfigError: it takes whole signals.
    """
    if isinstance(denoiser, Df3):
        denoiser = denoiser.model
    if isinstance(denoiser, DeepFilterNet3):
        return LiveDenoiser(denoiser)
    step = denoiser.by_hop()
    if step is None:
        raise ConfigError(
            f"denoiser {denoiser.name}: takes whole signals, not live ones; expected one of "
            f"{', '.join(BY_HOP)}"
        )
    return step


def build_live(generator: Generator) -> LiveSpectral | LiveWave:
    """Return a generator for a hop or a few at a time on a CPU, with its weights of now.

    Raises:
        ValueError: the generator looks ahead.
    """
    if isinstance(generator, SpectralGenerator):
        return LiveSpectral(generator)
    return LiveWave(WaveByHop(generator))


class Restores(Protocol):
    """What takes a signal at 48 kHz in pieces and gives it back in others, as long in all."""

    def push(self, piece: Wave) -> Wave:
        """Return what has become ready, ``(channels, any)``, with the next ``(channels, any)``."""

    def flush(self) -> Wave:
        """Return the rest, ``(channels, any)``."""


def restore_blocks(restorer: Restores, blocks: Iterable[Wave], sample_rate: int) -> Iterator[Wave]:
    """Yield a signal restored, of the same rate and length, each part as soon as it can be known.

    Args:
        restorer: that has not been used yet.
        blocks: ``(channels, any)`` each.
        sample_rate: of the blocks. Resampling makes the latency longer, by less than 20 ms.

    Raises:
        AudioError: the rate has no workable ratio to 48 kHz, or a block cannot be used.
    """
    samples_in = samples_out = 0

    def count_blocks() -> Iterator[Wave]:
        nonlocal samples_in
        for block in blocks:
            samples_in += block.shape[1]
            yield block

    def restored() -> Iterator[Wave]:
        for block in resample_blocks(count_blocks(), sample_rate, SAMPLE_RATE):
            yield restorer.push(block)
        yield restorer.flush()

    for block in resample_blocks(restored(), SAMPLE_RATE, sample_rate):
        # There and back may end a sample later.
        ready = block[:, : samples_in - samples_out]
        if ready.shape[1]:
            samples_out += ready.shape[1]
            yield ready


def _to_float32(piece: NDArray[np.generic], channels: int) -> Wave:
    """Return a piece as ``(channels, samples)`` in [-1, 1]."""
    floats = np.issubdtype(piece.dtype, np.floating)
    if not (floats or piece.dtype == np.int16):
        raise AudioError(
            f"a piece of type {piece.dtype}: expected floats in [-1, 1], or int16; divide other "
            "integers by their full scale"
        )
    if piece.ndim != 2 or len(piece) != channels or not np.isfinite(piece).all():
        raise AudioError(f"a piece of shape {piece.shape}: expected finite ({channels}, samples)")
    return piece.astype(np.float32) if floats else from_int16(piece.astype(np.int16))


def _through(stream: HopRunner, signals: list[Tensor], is_last: bool) -> Tensor:
    ready = stream.push(*signals)
    return torch.cat((ready, stream.flush()), dim=1) if is_last else ready


def _take(rest: Tensor, new: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return the first so many samples of a queue that ``new`` joins, and what stays in it."""
    queue = torch.cat((rest, new), dim=1)
    return queue[:, :samples], queue[:, samples:]
