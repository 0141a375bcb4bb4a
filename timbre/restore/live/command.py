"""Restore a live signal: raw PCM from standard input to standard output, or a file likewise."""

import argparse
import os
import sys
from collections.abc import Sequence
from io import FileIO

import torch

from timbre import storage
from timbre.audio import SAMPLE_RATE, check_rates, create, open_sound
from timbre.command import at_least, tell_warning
from timbre.errors import AudioError, ConfigError
from timbre.models import shipped
from timbre.restore.files import refuse_same
from timbre.restore.live import pcm as raw_pcm
from timbre.restore.live.restorer import Mix, StreamingRestorer, restore_blocks
from timbre.storage import STANDARD

USUAL_ENCODING = "s16le"
EPILOG = """\
The output is as long as the input and in time with it. A sample comes out 40 ms (wave) or 50 ms
(spectral) after it went in, 30 ms less with --no-denoise; resampling adds 7 ms at 44100 Hz, 10 at
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
    given = _parse(argv)
    try:
        mix = Mix(given.strength, given.dry, given.input_gain_db)
        check_rates(given.rate or SAMPLE_RATE, SAMPLE_RATE)
    except AudioError as error:
        raise ConfigError(f"--{error}") from None
    # Its pieces are too small to share.
    torch.set_num_threads(1)
    if given.input == STANDARD:
        _pipe(given, mix)
    else:
        _file(given, mix)


def _pipe(given: argparse.Namespace, mix: Mix) -> None:
    encoding, channels = given.encoding or USUAL_ENCODING, given.channels or 1
    restorer = _restorer(given, channels, mix)
    # Unbuffered: a read returns as soon as there is anything.
    file = FileIO(sys.stdin.fileno(), closefd=False)
    source = raw_pcm.PcmSource(file, encoding, channels)
    out = sys.stdout.buffer
    try:
        for block in restore_blocks(restorer, source, given.rate or SAMPLE_RATE):
            out.write(raw_pcm.to_bytes(block, encoding))
            out.flush()
    except BrokenPipeError:
        # Whoever listened has left. Python would flush once more at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    source.check_end()


def _file(given: argparse.Namespace, mix: Mix) -> None:
    refuse_same(given.input, given.output)
    with open_sound(given.input) as sound:
        rate = sound.info.sample_rate
        restorer = _restorer(given, sound.info.channels, mix)
        with create(given.output, sound.info) as writer:
            for block in restore_blocks(restorer, sound.blocks(rate), rate):
                writer.write(block)
    if writer.clipped:
        tell_warning(
            f"{given.output}: {writer.clipped} samples were beyond full scale and are clipped"
        )


def _restorer(given: argparse.Namespace, channels: int, mix: Mix) -> StreamingRestorer:
    return StreamingRestorer.load(given.checkpoint, not given.no_denoise, channels, mix)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre restore --stream", description=__doc__, epilog=EPILOG)
    parser.add_argument("input", metavar="INPUT", help="- for raw PCM, or an audio file")
    parser.add_argument("output", metavar="OUTPUT", help="- for raw PCM, or an audio file")
    parser.add_argument("--stream", action="store_true", required=True, help="what this is about")
    parser.add_argument(
        "--checkpoint",
        default=shipped.CAUSAL,
        help="causal, which comes with timbre (%(default)s); or best.safetensors or step-*.pt of a "
        "training run with generator.causal: true",
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
    parser.add_argument(
        "--no-denoise", action="store_true", help="the input has been through DeepFilterNet3"
    )
    parser.add_argument("--rate", type=at_least(1), help=f"of raw PCM, in Hz ({SAMPLE_RATE})")
    parser.add_argument("--channels", type=at_least(1), help="of raw PCM, each restored alone (1)")
    parser.add_argument(
        "--encoding", choices=raw_pcm.ENCODINGS, help=f"of raw PCM ({USUAL_ENCODING})"
    )
    given = parser.parse_args(argv)
    if (given.input == STANDARD) != (given.output == STANDARD):
        raise ConfigError("--stream takes - - (raw PCM in, raw PCM out) or two files")
    if given.input != STANDARD:
        _check_file(given)
    return given


def _check_file(given: argparse.Namespace) -> None:
    for name in ("rate", "channels", "encoding"):
        if getattr(given, name) is not None:
            raise ConfigError(f"--{name}: files say theirs; it belongs to raw PCM, - -")
    if not storage.exists(given.input):
        raise ConfigError(f"{given.input}: no such file")
    if storage.is_folder(given.input):
        raise ConfigError(f"{given.input}: is a folder; --stream takes one file")
