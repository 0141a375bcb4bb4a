"""Whole waveforms to the bytes of audio files, and to files."""

import io
from pathlib import Path

import numpy as np
import soundfile

from timbre import storage
from timbre.audio.libsndfile import reason_of
from timbre.audio.waveform import Int16Wave, Wave, to_int16
from timbre.errors import AudioError

# libsndfile's name of the format, where the ending is another one.
FORMATS = {"OGA": "OGG", "OPUS": "OGG", "AIF": "AIFF", "AIFC": "AIFF", "SND": "AU"} | dict.fromkeys(
    ("WAVE", "BWF"), "WAV"
)


def encode_wave(
    wave: Wave, sample_rate: int, format: str = "WAV", subtype: str = "PCM_16"
) -> bytes:
    """Return ``(samples,)`` or ``(channels, samples)`` as the bytes of an audio file."""
    if subtype == "PCM_16":  # libsndfile would scale by 32767, and reads back by 1/32768
        return encode_int16(to_int16(wave), sample_rate, format)
    buffer = io.BytesIO()
    # Some codecs wrap floats beyond full scale.
    clipped = np.clip(wave, -1.0, 1.0)
    soundfile.write(buffer, np.atleast_2d(clipped).T, sample_rate, format=format, subtype=subtype)
    return buffer.getvalue()


def encode_int16(wave: Int16Wave, sample_rate: int, format: str) -> bytes:
    """Return ``(samples,)`` or ``(channels, samples)`` 16-bit samples as an audio file's bytes."""
    buffer = io.BytesIO()
    frames = np.atleast_2d(wave).T
    soundfile.write(buffer, frames, sample_rate, format=format.upper(), subtype="PCM_16")
    return buffer.getvalue()


def write(url: str | Path, wave: Wave, sample_rate: int, subtype: str | None = None) -> None:
    """Write ``(samples,)`` or ``(channels, samples)`` under the format of the name's ending.

    The file appears whole or not at all.

    Raises:
        AudioError: the ending names no format that can be written, or the format cannot hold this
            many channels, this rate or this subtype.
    """
    format, usual = output_format(url)
    try:
        data = encode_wave(wave, sample_rate, format, subtype or usual)
    except (soundfile.LibsndfileError, ValueError) as error:
        channels = 1 if wave.ndim == 1 else len(wave)
        raise AudioError(
            f"{url}: {format} cannot hold {channels} channels at {sample_rate} Hz: {reason_of(error)}"
        ) from None
    storage.publish(url, data)


def output_format(url: str | Path) -> tuple[str, str]:
    """Return libsndfile's format and usual subtype for the ending of a name.

    Raises:
        AudioError: the ending names no format that can be written.
    """
    extension = Path(str(url)).suffix.lstrip(".").upper()
    format = FORMATS.get(extension, extension)
    if format not in soundfile.available_formats():
        raise AudioError(
            f"{url}: cannot write {extension or 'without an ending'}; use .wav or .flac"
        )
    return format, "OPUS" if extension == "OPUS" else soundfile.default_subtype(format)
