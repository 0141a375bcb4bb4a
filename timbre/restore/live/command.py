"""Restore a live signal: raw PCM from standard input to standard output, or a file likewise."""

import argparse
import os
import sys
from collections.abc import Sequence
from io import FileIO

import torch

from timbre import storage
from timbre.audio import SAMPLE_RATE, check_rates, create, open_sound
from timbre.command import at_least, print_warning
from timbre.denoise import as_denoiser
from timbre.denoiser_names import BY_HOP, DF3, NAMES, NONE, ONNX, check_name
from timbre.errors import AudioError, ConfigError
from timbre.models import CAUSAL
from timbre.restore.files import refuse_same
from timbre.restore.live import pcm as raw_pcm
from timbre.restore.live.restorer import LiveRestorer, Mix, restore_blocks
from timbre.restore.output import LINK_BY_WORD
from timbre.storage import STANDARD

USUAL_ENCODING = "s16le"
EPILOG = """\
The output is as long as the input and in time with it. A sample comes out 40 ms (wave) or 50 ms
(spectral) after it went in, 10 ms less with --denoiser rnnoise, 30 ms less with none; 10 ms more for two
channels unless --channels apart; resampling adds 7 ms at 44100 Hz, 10 at
16000, 20 at 8000. Example, live: arecord -t raw -f S16_LE -r 48000 -c 1 | timbre restore --stream - -
| aplay -t raw -f S16_LE -r 48000 -c 1
"""


def run(argv: Sequence[str]) -> None:
    """Restore ``--stream INPUT OUTPUT``.

    Raises:
        ConfigError: these options make no sense together.
        FileNotFoundError, CheckpointError, AudioError, OSError: input, output or checkpoint cannot
            be used.
    """
    options = _parse(argv)
    mix = mix_of(options)
    try:
        check_rates(options.rate or SAMPLE_RATE, SAMPLE_RATE)
    except AudioError as error:
        raise ConfigError(f"--{error}") from None
    # Its pieces are too small to share.
    torch.set_num_threads(1)
    if options.input == STANDARD:
        _pipe(options, mix)
    else:
        _file(options, mix)


def _pipe(options: argparse.Namespace, mix: Mix) -> None:
    encoding, channels = options.encoding or USUAL_ENCODING, channel_count(options.channels)
    restorer = load_restorer(options, channels, mix)
    # Unbuffered: a read returns as soon as there is anything.
    file = FileIO(sys.stdin.fileno(), closefd=False)
    source = raw_pcm.PcmSource(file, encoding, channels)
    out = sys.stdout.buffer
    try:
        for block in restore_blocks(restorer, source, options.rate or SAMPLE_RATE):
            out.write(raw_pcm.to_bytes(block, encoding))
            out.flush()
    except BrokenPipeError:
        # Whoever listened has left. Python would flush once more at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    source.check_end()


def _file(options: argparse.Namespace, mix: Mix) -> None:
    refuse_same(options.input, options.output)
    with open_sound(options.input) as sound:
        rate = sound.info.sample_rate
        restorer = load_restorer(options, sound.info.channels, mix)
        with create(options.output, sound.info) as writer:
            for block in restore_blocks(restorer, sound.blocks(rate), rate):
                writer.write(block)
    if writer.clipped_samples:
        print_warning(
            f"{options.output}: {writer.clipped_samples} samples were beyond full scale and are clipped"
        )


def load_restorer(options: argparse.Namespace, channels: int, mix: Mix) -> LiveRestorer:
    """Return the restorer that options ask for; it raises like :meth:`LiveRestorer.load`."""
    denoiser = as_denoiser(options.denoiser, options.denoiser_weights)
    restorer = LiveRestorer.load(
        options.checkpoint, denoiser or False, channels, mix, options.max_lift_db
    )
    if restorer.warning:
        print_warning(restorer.warning)
    return restorer


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre restore --stream", description=__doc__, epilog=EPILOG)
    parser.add_argument("input", metavar="INPUT", help="- for raw PCM, or an audio file")
    parser.add_argument("output", metavar="OUTPUT", help="- for raw PCM, or an audio file")
    parser.add_argument("--stream", action="store_true", required=True, help="what this is about")
    add_restorer_options(parser)
    parser.add_argument("--rate", type=at_least(1), help=f"of raw PCM, in Hz ({SAMPLE_RATE})")
    parser.add_argument(
        "--channels",
        type=channels_word,
        help="linked: two channels are repaired so that the voice stays where it is, 10 ms later; "
        "apart: each alone. Of raw PCM also their number (1): two are linked while they are alike",
    )
    parser.add_argument(
        "--encoding", choices=raw_pcm.ENCODINGS, help=f"of raw PCM ({USUAL_ENCODING})"
    )
    options = parser.parse_args(argv)
    check_live_denoiser(options)
    if (options.input == STANDARD) != (options.output == STANDARD):
        raise ConfigError("--stream takes - - (raw PCM in, raw PCM out) or two files")
    if options.input != STANDARD:
        _check_file(options)
    return options


def add_restorer_options(parser: argparse.ArgumentParser) -> None:
    """Add what makes a live restorer: checkpoint, shares, gain and networks."""
    parser.add_argument(
        "--checkpoint",
        default=CAUSAL,
        help="causal, which comes with timbre (%(default)s); best.safetensors or step-*.pt of a "
        "training run with generator.causal: true; or hf://USER/REPOSITORY[@REVISION][#sha256=HASH]",
    )
    parser.add_argument(
        "--strength", type=float, default=1.0, help="share of the correction, 0 to 1 (%(default)s)"
    )
    parser.add_argument(
        "--dry",
        type=float,
        default=0.0,
        help="share of the input in the output, 0 to 1 (%(default)s)",
    )
    parser.add_argument(
        "--input-gain-db",
        type=float,
        default=0.0,
        help="raises the input on its way in, lowers the output on its way out: -25 minus the level "
        "of your voice in dBFS, where that is below -35 or above -15 (%(default)s)",
    )
    add_network_options(parser)


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what says more of the networks than which checkpoint: the same for files and live."""
    parser.add_argument(
        "--attenuation-limit-db",
        type=float,
        default=0.0,
        metavar="DB",
        help="so much is the noise quieter at most: 12 leaves it at a quarter; 0: no limit "
        "(%(default)s)",
    )
    parser.add_argument(
        "--denoiser",
        metavar="NAME",
        help=f"what comes before the generator: {', '.join(NAMES)} or {ONNX}:PATH ({DF3}); live "
        "signals take those that work hop by hop",
    )
    parser.add_argument(
        "--no-denoise", action="store_true", help="the input is denoised already: --denoiser none"
    )
    parser.add_argument(
        "--denoiser-weights",
        metavar="FILE",
        help="DeepFilterNet3's weights: a .safetensors file or the official checkpoint or archive; "
        "usually those of the installed package",
    )
    parser.add_argument(
        "--max-lift-db",
        type=float,
        metavar="DB",
        help="how far the output may rise above DeepFilterNet3's around a frequency, in place of the "
        "checkpoint's own limit: 6 leaves little noise, 12 more of the voice",
    )


def check_denoiser(options: argparse.Namespace) -> None:
    """Replace what was asked for by the name of one denoiser.

    Raises:
        ConfigError: there is no such denoiser, or the options contradict each other.
    """
    name = options.denoiser or (NONE if options.no_denoise else DF3)
    if options.no_denoise and name != NONE:
        raise ConfigError(f"--no-denoise: contradicts --denoiser {name}; expected one of the two")
    try:
        options.denoiser = check_name(name)
    except ValueError as error:
        raise ConfigError(f"--denoiser: {error}") from None
    if options.no_denoise:
        # What a denoiser that does not run would have been loaded from.
        options.denoiser_weights = None


def check_live_denoiser(options: argparse.Namespace) -> None:
    """Do what :func:`check_denoiser` does, and refuse a denoiser that takes whole signals.

    Raises:
        ConfigError: see there.
    """
    check_denoiser(options)
    if options.denoiser not in BY_HOP:
        names = ", ".join(BY_HOP)
        raise ConfigError(
            f"--denoiser {options.denoiser}: takes whole signals; live ones go through {names}"
        )


def mix_of(options: argparse.Namespace) -> Mix:
    """Return what options say of the shares.

    Raises:
        ConfigError: a share or a gain that nobody can mean.
    """
    link = LINK_BY_WORD.get(options.channels)
    try:
        return Mix(
            options.strength,
            options.dry,
            options.input_gain_db,
            link=link,
            attenuation_limit_db=options.attenuation_limit_db,
        )
    except AudioError as error:
        raise ConfigError(f"--{error}") from None


def channels_word(word: str) -> str | int:
    """Return what ``--channels`` says: how two are restored, or how many there are."""
    return word if word in LINK_BY_WORD else at_least(1)(word)


def channel_count(value: str | int | None) -> int:
    """Return how many channels an option says."""
    if value is None:
        return 1
    return value if isinstance(value, int) else 2


def _check_file(options: argparse.Namespace) -> None:
    for name in ("rate", "channels", "encoding"):
        value = getattr(options, name)
        if value is not None and value not in LINK_BY_WORD:
            raise ConfigError(f"--{name}: files say theirs; it belongs to raw PCM, - -")
    if not storage.exists(options.input):
        raise ConfigError(f"{options.input}: no such file")
    if storage.is_folder(options.input):
        raise ConfigError(f"{options.input}: is a folder; --stream takes one file")
