"""Denoise speech with DeepFilterNet3 and repair its timbre: arrays, files, folders."""

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from timbre import audio, checkpoint, storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.command import command, say
from timbre.denoise import DeepFilterNet3
from timbre.errors import AudioError, ConfigError, WorkError

# Both networks see speech at the level that they were trained at.
WORKING_LEVEL_DB = -25.0
# A silent or nearly silent channel is not raised by more than this.
MAX_GAIN_DB = 60.0


class Restored(NamedTuple):
    """Two waveforms of one shape: after the denoiser alone, and after the generator too."""

    denoised: Tensor
    restored: Tensor


class Restorer:
    """DeepFilterNet3 and a generator, ready to be called.

    Args:
        generator: takes and gives ``(batch, 1, samples)`` at 48 kHz; None repairs nothing.
        denoiser: None where the input is denoised already.
        device: where both run.
        noisy_input: whether the generator also takes what the denoiser was given.
    """

    def __init__(
        self,
        generator: nn.Module | None,
        denoiser: DeepFilterNet3 | None,
        device: str | torch.device = "cpu",
        noisy_input: bool = False,
    ) -> None:
        self.noisy_input = noisy_input
        self.device = torch.device(device)
        self.generator = generator.to(self.device) if generator else None
        self.denoiser = denoiser.to(self.device) if denoiser else None

    @classmethod
    def load(
        cls,
        checkpoint_url: str | None,
        denoise: bool = True,
        denoiser_weights: str | None = None,
        device: str | None = None,
    ) -> "Restorer":
        """Return a restorer from a checkpoint, on the GPU if there is one.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            CheckpointError: it is something else, or of another architecture.
        """
        generator, noisy_input = None, False
        if checkpoint_url:
            generator, config = checkpoint.load_generator(checkpoint_url)
            noisy_input = config.noisy_input
        denoiser = DeepFilterNet3.load(denoiser_weights) if denoise else None
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(generator, denoiser, device, noisy_input)

    def __call__(self, waveform: Wave, sample_rate: int, strength: float = 1.0) -> Wave:
        """Return the waveform restored, of the same shape and rate.

        Args:
            waveform: ``(samples,)`` or ``(channels, samples)`` float32 in [-1, 1]; each channel is
                treated alone.
            sample_rate: of the waveform, in Hz.
            strength: how much of the correction is applied; 0 gives the denoiser's output.

        Raises:
            AudioError: the waveform is empty, of another shape, or not finite; or the rate has no
                workable ratio to 48 kHz.
        """
        if waveform.ndim not in (1, 2) or waveform.size == 0 or not np.isfinite(waveform).all():
            raise AudioError(
                f"waveform of shape {waveform.shape}: expected finite (samples,) or "
                "(channels, samples)"
            )
        channels = audio.resample(
            np.atleast_2d(waveform).astype(np.float32), sample_rate, SAMPLE_RATE
        )
        both = self.process(torch.from_numpy(channels))
        wave = both.denoised + strength * (both.restored - both.denoised)
        result = audio.resample(wave.numpy(), SAMPLE_RATE, sample_rate)[:, : waveform.shape[-1]]
        return result.reshape(waveform.shape)

    @torch.inference_mode()
    def process(self, waves: Tensor, noisy: Tensor | None = None) -> Restored:
        """Return ``(batch, samples)`` at 48 kHz denoised and restored, each row alone.

        Args:
            waves: the denoiser's input, or without a denoiser its output.
            noisy: ``(batch, samples)``, without a denoiser: its input in time with ``waves``, where
                it is known, for a generator with ``noisy_input``.
        """
        heard = [None] * len(waves) if noisy is None else noisy.to(self.device)[:, None]
        rows = [
            self._process_one(wave[None], beside)
            for wave, beside in zip(waves.to(self.device), heard, strict=True)
        ]
        return Restored(*(torch.cat(side).cpu() for side in zip(*rows, strict=True)))

    def _process_one(self, wave: Tensor, noisy: Tensor | None) -> Restored:
        gain_db = WORKING_LEVEL_DB - audio.active_level_db(wave[0].cpu().numpy())
        gain = audio.gain(min(gain_db, MAX_GAIN_DB))
        denoised = wave * gain
        heard = None if noisy is None else noisy * gain
        if self.denoiser is not None:
            heard = denoised
            denoised = self.denoiser(heard)
        restored = denoised
        if self.generator is not None:
            second = heard[:, None] if self.noisy_input and heard is not None else None
            restored = self.generator(denoised[:, None], second)[:, 0]
        return Restored(denoised / gain, restored / gain)


def restore_file(restorer: Restorer, source: str, target: str, strength: float) -> None:
    """Write ``source`` restored to ``target``: the same length, rate and channels.

    Raises:
        FileNotFoundError, OSError: the source cannot be read or the target not written.
        AudioError: the source is no usable audio, or the target's format cannot hold it.
    """
    header = audio.info(source)
    wave, rate = audio.read(source)
    restored = restorer(wave, rate, strength)
    # Keep the word length where the target's format has it.
    subtype = header.subtype if audio.can_hold(target, header.subtype) else None
    audio.write(target, restored, rate, subtype)


def restore_folder(restorer: Restorer, source: str, target: str, strength: float) -> None:
    """Restore every audio file below ``source`` to the same place below ``target``.

    Files that are there already are left, whatever made them; a file that fails is named, and the
    others go on.

    Raises:
        ConfigError: there is no audio, or the target lies in the source.
        WorkError: some files failed.
    """
    if f"{target.rstrip('/')}/".startswith(f"{source.rstrip('/')}/"):
        raise ConfigError(f"{target}: lies in the input folder {source}; choose a place outside it")
    files = audio.find_below(source)
    if not files:
        raise ConfigError(f"{source}: no audio in it")
    failed = []
    for path, url in tqdm(files.items(), "restore", unit="file", disable=None):
        output = storage.join(target, path)
        if storage.exists(output):
            continue
        try:
            restore_file(restorer, url, output, strength)
        except (AudioError, OSError) as error:
            failed.append(f"{url}: {error}")
    if failed:
        raise WorkError(f"{len(failed)} of {len(files)} files failed:\n" + "\n".join(failed))


def refuse_format(target: str) -> None:
    """Raise ConfigError, before the work and not after, where the ending names no format."""
    try:
        audio.output_format(target)
    except AudioError as error:
        raise ConfigError(str(error)) from None


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Restore ``INPUT OUTPUT --checkpoint C [--strength S] [--no-denoise]``."""
    parser = argparse.ArgumentParser("timbre restore", description=__doc__)
    parser.add_argument("input", metavar="INPUT", help="an audio file, or a folder of them")
    parser.add_argument("output", metavar="OUTPUT", help="a file (.wav, .flac, ...) or a folder")
    parser.add_argument(
        "--checkpoint", required=True, help="best.safetensors or step-*.pt of a training run"
    )
    parser.add_argument(
        "--strength", type=float, default=1.0, help="0 (DeepFilterNet3 alone) to 1 (%(default)s)"
    )
    parser.add_argument(
        "--no-denoise", action="store_true", help="the input has been through DeepFilterNet3"
    )
    given = parser.parse_args(argv)
    if not 0 <= given.strength <= 1:
        raise ConfigError(f"--strength {given.strength}: expected 0 to 1")
    if not storage.exists(given.input):
        raise ConfigError(f"{given.input}: no such file or folder")
    folder = storage.is_folder(given.input)
    if not folder:
        refuse_format(given.output)
    restorer = Restorer.load(given.checkpoint, denoise=not given.no_denoise)
    work = restore_folder if folder else restore_file
    work(restorer, given.input, given.output, given.strength)
    say(f"written: {given.output}")


if __name__ == "__main__":
    sys.exit(main())
