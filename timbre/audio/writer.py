"""Audio files written in blocks, in the layout of the file that they come from."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile

from timbre.audio.decode import AudioInfo
from timbre.audio.encode import output_format
from timbre.audio.libsndfile import KeptErrors, reason_of
from timbre.audio.waveform import Wave, to_int16
from timbre.errors import AudioError
from timbre.storage import STANDARD, name_in_errors, new_file

# libsndfile's Vorbis encoder crashes on a minute at once.
FRAMES_AT_ONCE = 16_384
# Lengths in most formats have 32 bits; RF64 is WAV with 64. A header and its like fit beside this.
LONGEST_BYTES = 0xFFFF_0000
# These have lengths of 64 bits, or none.
LONG_FORMATS = ("RF64", "W64", "CAF", "FLAC", "OGG", "MP3")
# Codecs that pad the end to a whole block: what is read again would be longer.
PADDING_CODECS = frozenset(
    [
        "IMA_ADPCM",
        "MS_ADPCM",
        "GSM610",
        "VOX_ADPCM",
        "G721_32",
        "G723_24",
        "G723_40",
        "NMS_ADPCM_16",
        "NMS_ADPCM_24",
        "NMS_ADPCM_32",
    ]
)
FLOATS = ("FLOAT", "DOUBLE")
SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


class Writer:
    """A file that is written in blocks ``(channels, samples)`` in [-1, 1].

    Attributes:
        clipped_samples: how many samples were beyond full scale, and are at full scale now.
    """

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self.clipped_samples = 0

    def write(self, block: Wave) -> None:
        """Append a block."""
        for first in range(0, block.shape[1], FRAMES_AT_ONCE):
            frames = np.ascontiguousarray(block[:, first : first + FRAMES_AT_ONCE].T)
            if self._file.subtype not in FLOATS:
                # Some codecs wrap what is beyond full scale.
                self.clipped_samples += int(np.count_nonzero(np.abs(frames) > 1))
                frames = np.clip(frames, -1.0, 1.0)
            # libsndfile would scale by 32767, and reads back by 1/32768.
            self._file.write(to_int16(frames) if self._file.subtype == "PCM_16" else frames)


@contextmanager
def create(url: str, like: AudioInfo) -> Iterator[Writer]:
    """Open an audio file to write; it appears at the end of the block, as of :func:`new_file`.

    Args:
        url: its ending names the format; ``-`` is WAV on standard output.
        like: its length, rate and channels; its format and word length are kept where the ending
            allows.

    Raises:
        AudioError: the ending names no format that can be written, or the format cannot hold this
            many channels, this rate or this length. Then nothing is written.
        OSError: it cannot be written.
    """
    format, subtype = file_format(url, like)
    with new_file(url) as file:
        guard = KeptErrors(file)
        try:
            with soundfile.SoundFile(
                guard, "w", like.sample_rate, like.channels, subtype, format=format
            ) as file_of_sound:
                yield Writer(file_of_sound)
        except soundfile.LibsndfileError as error:
            _raise_error_of(guard, name_of(url))
            raise AudioError(
                f"{name_of(url)}: {format} cannot hold {like.channels} channels at "
                f"{like.sample_rate} Hz: {reason_of(error)}"
            ) from None
        except AssertionError:  # soundfile's, when less was written than was given
            _raise_error_of(guard, name_of(url))
            raise
        _raise_error_of(guard, name_of(url))


def file_format(url: str, like: AudioInfo) -> tuple[str, str]:
    """Return libsndfile's format and subtype for a file of this name; raises like :func:`create`."""
    format, usual = ("WAV", "PCM_16") if url == STANDARD else output_format(url)
    subtype = like.subtype
    # libsndfile takes MP3 inside WAV for writable, and fails later.
    foreign = subtype.startswith("MPEG") and format != "MP3"
    if foreign or subtype in PADDING_CODECS or not soundfile.check_format(format, subtype):
        subtype = usual
    length = like.samples * like.channels * SAMPLE_BYTES.get(subtype, 4)
    if format == "WAV":
        if length > LONGEST_BYTES:
            format = "RF64"
        elif like.format == "WAVEX":  # says which loudspeaker a channel is for
            format = "WAVEX"
    elif length > LONGEST_BYTES and format not in LONG_FORMATS:
        raise AudioError(
            f"{name_of(url)}: {format} cannot hold {length / 2**30:.1f} GiB: its lengths have 32 bits; "
            "use .w64, .flac or .wav"
        )
    return format, subtype


def name_of(url: str) -> str:
    """Return what errors call an output."""
    return "standard output" if url == STANDARD else url


def _raise_error_of(guard: KeptErrors, name: str) -> None:
    if guard.error:
        with name_in_errors(name):
            raise guard.error from None


def length_at(info: AudioInfo, sample_rate: int) -> AudioInfo:
    """Return the layout of the same sound at another rate."""
    samples = math.ceil(info.samples * sample_rate / info.sample_rate)
    return info._replace(samples=samples, sample_rate=sample_rate)
