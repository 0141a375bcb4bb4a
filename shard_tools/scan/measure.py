"""What one recording holds: length, level, bandwidth, offset, where its speech lies.

The file is decoded to its end, in blocks, so that its length does not matter.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shard_tools.scan.bandwidth import band_levels, bandwidth_of_levels
from shard_tools.scan.catalogue import WHOLE_BYTES, Clip
from shard_tools.scan.sources import File
from timbre import audio, storage
from timbre.audio import SAMPLE_RATE, SPEECH_RANGE_DB, WORKING_LEVEL_DB, AudioInfo, Wave
from timbre.audio.decode import channel_blocks
from timbre.errors import AudioError

BLOCK_SECONDS = 30.0
# An hour's bandwidth is known from ten minutes of it.
BANDWIDTH_BLOCKS = 20
FRAMES_PER_SECOND = 50
# A constant offset of less than this share of the power moves no level by 0.005 dB, and is left.
OFFSET_SHARE = 1e-3
# Channels that lose more than this where they are added up cancel each other: 20 dB.
CANCELLED_SHARE = 0.01


class _Levels(NamedTuple):
    """Band levels of some blocks, the power of all 20-ms frames, and sums over all samples."""

    bands: NDArray[np.float32]
    frames: NDArray[np.float64]
    offset: float
    power: float
    channels_power: float


def measure(file: File, with_bandwidth: bool = True) -> Clip:
    """Return the row of a file, ``refused`` if it is unreadable or silent.

    Raises:
        OSError: the store does not give it.
    """
    blank = Clip(file.path, file.bytes, "")
    try:
        with _open(file) as handle:
            blank = replace(blank, sha256=_hash(handle))
            header = audio.header(handle, file.url)
            if header.sample_rate < FRAMES_PER_SECOND:
                raise AudioError(f"{file.url}: a sample rate of {header.sample_rate} Hz")
            levels = _levels(handle, file.url, header, with_bandwidth)
    except AudioError as error:
        return replace(blank, refused="unreadable", detail=str(error))
    clip = replace(
        blank,
        samples=-(-header.samples * SAMPLE_RATE // header.sample_rate),
        seconds=round(header.samples / header.sample_rate, 3),
        sample_rate=header.sample_rate,
        channels=header.channels,
        format=f"{header.format}/{header.subtype}",
    )
    if levels.power < CANCELLED_SHARE * levels.channels_power:
        detail = "its channels are of opposite phase and cancel each other; store one of them"
        return replace(clip, refused="cancelled", detail=detail)
    frames = levels.frames
    active = np.flatnonzero(frames > frames.max(initial=0.0) * 10 ** (-SPEECH_RANGE_DB / 10))
    if not len(active):
        return replace(clip, refused="silent")
    level_db = 10 * float(np.log10(frames[active].mean()))
    frame = header.sample_rate // FRAMES_PER_SECOND * SAMPLE_RATE / header.sample_rate
    has_offset = levels.offset**2 > OFFSET_SHARE * levels.power
    return replace(
        clip,
        level_db=round(level_db, 2),
        # Bandwidth is judged at the level at which the clip will be used.
        bandwidth_hz=bandwidth_of_levels(levels.bands + np.float32(WORKING_LEVEL_DB - level_db)),
        speech_start=int(active[0] * frame),
        speech_stop=min(int((active[-1] + 1) * frame), clip.samples),
        offset=round(levels.offset, 6) if has_offset else None,
    )


def _open(file: File) -> BinaryIO:
    try:
        if file.bytes > WHOLE_BYTES:
            return storage.open_ranged(file.url, file.bytes)
        return io.BytesIO(storage.read(file.url))
    except PermissionError as error:
        if "://" in file.url:  # a store's key that has run out: no fault of this one recording
            raise
        raise AudioError(f"{file.url}: cannot be read: {error.strerror}") from None


def _hash(handle: BinaryIO) -> str:
    digest = hashlib.sha256()
    while data := handle.read(1 << 20):
        digest.update(data)
    return digest.hexdigest()


def _levels(handle: BinaryIO, name: str, header: AudioInfo, with_bandwidth: bool) -> _Levels:
    bands, powers = [np.empty((0, 0), np.float32)], [np.empty(0)]
    total = power = channels_power = 0.0
    frame = header.sample_rate // FRAMES_PER_SECOND
    count = -(-header.samples // round(BLOCK_SECONDS * header.sample_rate))
    every = -(-count // BANDWIDTH_BLOCKS)
    for number, (block, energy) in enumerate(_blocks(handle, name, header)):
        if number == 0:  # whether it can be, for those too that need no bandwidth
            audio.resample(block[:frame], header.sample_rate, SAMPLE_RATE)
        padded = np.pad(block - block.mean(), (0, -len(block) % frame))
        powers.append(np.square(padded, dtype=np.float64).reshape(-1, frame).mean(axis=1))
        if with_bandwidth and number % every == 0:
            bands.append(band_levels(audio.resample(block, header.sample_rate, SAMPLE_RATE)))
        total += float(block.sum(dtype=np.float64))
        power += float(np.square(block, dtype=np.float64).sum())
        channels_power += energy
    samples = max(header.samples, 1)
    return _Levels(
        np.concatenate(bands[1:] or bands),
        np.concatenate(powers),
        total / samples,
        power / samples,
        channels_power / samples,
    )


def _blocks(handle: BinaryIO, name: str, header: AudioInfo) -> Iterator[tuple[Wave, float]]:
    """Yield the mean of the channels in blocks, and the energy of a channel in each."""
    samples = round(BLOCK_SECONDS * header.sample_rate)
    for channels in channel_blocks(handle, name, samples):
        energy = float(np.square(channels, dtype=np.float64).sum()) / len(channels)
        mono: Wave = channels[0] if len(channels) == 1 else channels.mean(axis=0)
        yield mono, energy
