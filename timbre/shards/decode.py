"""The samples of one member of a tar: 16-bit mono WAV as a view, all else through libsndfile."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import soundfile

from timbre.audio import SAMPLE_RATE, Int16Wave, to_int16
from timbre.errors import ShardError

PCM, BITS = 1, 16
CHUNK_HEADER = struct.Struct("<4sI")
FORMAT = struct.Struct("<HHIIHH")
FIRST_CHUNK = 12
# Samples of a member that are decoded together.
DECODED_AT_ONCE = 1 << 16


def decode_segment(data: bytes | memoryview, start: int, samples: int, name: str) -> Int16Wave:
    """Return ``samples`` 16-bit samples from ``start`` of a mono FLAC or WAV member.

    Of a FLAC only the blocks that hold them are decoded, of a WAV the result is a view.

    Raises:
        ShardError: the member is not audio, not mono at 48 kHz, or ends before that.
    """
    wave = pcm_samples(memoryview(data))
    if wave is not None:
        wave = wave[start : start + samples]
    else:
        with _open_audio(data, name) as file:
            file.seek(min(start, file.frames))
            wave = _read(file, samples, name)
    if len(wave) != samples:
        raise ShardError(f"{name}: {len(wave)} samples from {start}, expected {samples}")
    return wave


def count_samples(data: bytes | memoryview, name: str) -> int:
    """Return how many samples a member really decodes to; raises like :func:`decode_segment`."""
    samples = 0
    with _open_audio(data, name) as file:
        # Not in one go: a damaged header may claim 2**36 samples, and room is made for what it claims.
        while block := len(file.read(DECODED_AT_ONCE, dtype="int16")):
            samples += block
    return samples


def claimed_samples(data: bytes | memoryview, name: str) -> int:
    """Return how many samples a member says it has; raises like :func:`decode_segment`."""
    with _open_audio(data, name) as file:
        return int(file.frames)


def pcm_samples(data: memoryview) -> Int16Wave | None:
    """Return all samples of a WAV file, ``(samples,)``, as a view of its bytes.

    None if it is anything but mono 16-bit PCM at 48 kHz in little-endian RIFF, or if it breaks off:
    that is for a library to read, or to refuse. (Format: Microsoft, Multimedia Programming Interface
    and Data Specifications 1.0, 1991.)
    """
    place = pcm_place(data, len(data))
    return None if place is None else np.frombuffer(data, "<i2", place.samples, place.offset)


class PcmPlace(NamedTuple):
    """Where the samples of a WAV file begin, in bytes, and how many there are."""

    offset: int
    samples: int


def pcm_place(head: memoryview, length: int) -> PcmPlace | None:
    """Return where the samples of a WAV file of ``length`` bytes lie, by its beginning ``head``.

    None if ``head`` does not reach to where they begin, or as :func:`pcm_samples`.
    """
    if bytes(head[:4]) != b"RIFF" or bytes(head[8:FIRST_CHUNK]) != b"WAVE":
        return None
    at, is_length_known = FIRST_CHUNK, False
    while at + CHUNK_HEADER.size <= len(head):
        name, size = CHUNK_HEADER.unpack_from(head, at)
        at += CHUNK_HEADER.size
        if at + size > length:
            return None
        if name == b"fmt " and FORMAT.size <= min(size, len(head) - at):
            kind, channels, rate, _, _, bits = FORMAT.unpack_from(head, at)
            is_length_known = (kind, channels, rate, bits) == (PCM, 1, SAMPLE_RATE, BITS)
        elif name == b"data":
            return PcmPlace(at, size // 2) if is_length_known else None
        at += size + size % 2
    return None


def _read(file: soundfile.SoundFile, samples: int, name: str) -> Int16Wave:
    """Return up to ``samples`` from where the file is; room is made for what comes, not for a claim.

    Of 16-bit sound these are the samples themselves, of any other the nearest: libsndfile's own way
    to 16 bits cuts off what is finer, and does not scale what is a float.
    """
    blocks: list[Int16Wave] = []
    exact = file.subtype == "PCM_16"
    while samples > 0:
        block = file.read(min(samples, DECODED_AT_ONCE), dtype="int16" if exact else "float64")
        if not len(block):
            break
        if not exact and not np.isfinite(block).all():
            raise ShardError(f"{name}: samples that are not finite")
        blocks.append(block if exact else to_int16(block))
        samples -= len(block)
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros(0, np.int16), *blocks])


@contextmanager
def _open_audio(data: bytes | memoryview, name: str) -> Iterator[soundfile.SoundFile]:
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.samplerate != SAMPLE_RATE or file.channels != 1:
                raise ShardError(
                    f"{name}: {file.channels} channels at {file.samplerate} Hz, "
                    f"expected 1 at {SAMPLE_RATE}"
                )
            yield file
    except soundfile.LibsndfileError as error:
        raise ShardError(f"{name}: cannot be decoded: {error}") from None
