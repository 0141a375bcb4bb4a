"""Audio files, and stretches of them, to waveforms.

Past this module waveforms are float32 in [-1, 1] at 48 kHz.
"""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from timbre import storage
from timbre.audio.joined import WholeSound, check_single
from timbre.audio.libsndfile import Sequential
from timbre.audio.resample import RESAMPLER_REACH, resample
from timbre.audio.waveform import SAMPLE_RATE, Wave
from timbre.errors import AudioError

# What a lossy decoder needs after a jump before it is right again (MP3's bit reservoir: 9 frames).
PREROLL = 16_384
# A header may say any length: no more than this is asked for before it has come.
BLOCK_SAMPLES = 1 << 24


class AudioInfo(NamedTuple):
    """What a file holds.

    ``note`` is what a user should know of it, or None.
    """

    samples: int
    sample_rate: int
    channels: int
    format: str
    subtype: str
    note: str | None = None


def info(url: str | Path) -> AudioInfo:
    """Return what an audio file holds.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: it is not audio that libsndfile knows, or it is empty.
    """
    if storage.is_local(url):
        path = storage.local_path(url)
        if not path.is_file():
            raise FileNotFoundError(f"{url}: no such file")
        with path.open("rb") as file:
            return header(file, str(url))
    return header(io.BytesIO(storage.read(url)), str(url))


def header(file: BinaryIO, name: str) -> AudioInfo:
    """Return what an open audio file holds; AudioError like :func:`info`, and where it breaks off."""
    check_single(file, name)
    with WholeSound(file, name) as sound:
        return AudioInfo(
            sound.frames,
            sound.samplerate,
            sound.channels,
            sound.format,
            sound.subtype,
            sound.note,
        )


def read(url: str | Path) -> tuple[Wave, int]:
    """Return the waveform ``(channels, samples)`` of an audio file, and its sample rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: it is not audio, is empty, breaks off, or holds NaN or infinite samples.
    """
    return decode_bytes(storage.read(url), str(url))


def read_mono(url: str | Path) -> Wave:
    """Return the mean of the channels at 48 kHz, ``(samples,)``; raises like :func:`read`."""
    wave, rate = read(url)
    mono: Wave = wave.mean(axis=0)
    return resample(mono, rate, SAMPLE_RATE)


def decode_bytes(data: bytes, name: str) -> tuple[Wave, int]:
    """Return ``(channels, samples)`` and the sample rate of an encoded file; ``name`` is for errors."""
    check_single(io.BytesIO(data), name)
    with WholeSound(io.BytesIO(data), name) as file:
        frames, rate = file.frames, file.samplerate
        wave = _read_whole(file)
    if len(wave) != frames:
        raise AudioError(f"{name}: breaks off after {len(wave)} of {frames} samples")
    _check_finite(wave, name)
    return np.ascontiguousarray(wave.T), rate


def read_stretch(file: BinaryIO, name: str, start: int, samples: int) -> Wave:
    """Return ``(samples,)`` mono at 48 kHz from ``start`` on, counted at 48 kHz, of an open file.

    It equals that stretch of :func:`read_mono`'s result, and only what it needs is decoded. Before
    the recording and after it there is silence.

    Raises:
        AudioError: as :func:`read`.
    """
    with WholeSound(file, name) as sound:
        common = math.gcd(sound.samplerate, SAMPLE_RATE)
        down, up = sound.samplerate // common, SAMPLE_RATE // common
        # The stretch begins on a sample that both rates share, so that the filter's phase is the same.
        reach = -(-RESAMPLER_REACH * max(down, up) // up)
        first = max(start * down // up - reach, 0) // down * down
        last = min(-(-(start + samples) * down // up) + reach, sound.frames)
        if first >= last:
            return np.zeros(samples, np.float32)
        wave = _read_mono(sound, name, first, last - first)
    at_48 = resample(wave, sound.samplerate, SAMPLE_RATE)
    skip = start - first // down * up
    inside = at_48[max(skip, 0) : max(skip + samples, 0)]
    before = min(max(-skip, 0), samples)
    return np.pad(inside, (before, samples - before - len(inside)))


def _read_whole(sound: WholeSound) -> Wave:
    """Return ``(samples, channels)``, fewer than the header says where the file has fewer."""
    blocks = [sound.read(min(sound.frames, BLOCK_SAMPLES))]
    while (rest := sound.frames - sum(map(len, blocks))) and len(blocks[-1]) == BLOCK_SAMPLES:
        blocks.append(sound.read(min(rest, BLOCK_SAMPLES)))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def mono_blocks(file: BinaryIO, name: str, seconds: float) -> Iterator[Wave]:
    """Yield an open file's mono signal at its own rate, ``(samples,)`` of so many seconds at a time.

    Raises:
        AudioError: as :func:`read`.
    """
    with WholeSound(file, name) as sound:
        size = round(seconds * sound.samplerate)
        for first in range(0, sound.frames, size):
            yield _read_mono(sound, name, first, min(size, sound.frames - first))


def channel_blocks(file: BinaryIO, name: str, samples: int) -> Iterator[Wave]:
    """Yield an open file's channels at its own rate, ``(channels, samples)``, so many at a time.

    They are the samples of :func:`read`, bit for bit.

    Raises:
        AudioError: as :func:`read`.
    """
    with WholeSound(file, name, Sequential) as sound:
        position = 0
        while len(block := sound.read(samples)):
            _check_finite(block, name)
            position += len(block)
            yield np.ascontiguousarray(block.T)
        if position != sound.frames:
            raise AudioError(f"{name}: breaks off after {position} of {sound.frames} samples")


def _read_mono(sound: WholeSound, name: str, first: int, samples: int) -> Wave:
    # Whatever soundfile reads, it seeks afterwards, so even the next block comes after a jump.
    before = min(PREROLL if sound.format in ("MP3", "OGG") else 0, first)
    sound.seek(first - before)
    wave = sound.read(before + samples)[before:]
    if len(wave) != samples:
        raise AudioError(f"{name}: breaks off after {first + len(wave)} of {sound.frames} samples")
    _check_finite(wave, name)
    mono: Wave = wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1)
    return mono


def _check_finite(wave: Wave, name: str) -> None:
    if not np.isfinite(wave).all():
        raise AudioError(f"{name}: holds NaN or infinite samples")
