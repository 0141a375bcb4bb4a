"""WAV without a decoder: what it reads is what libsndfile reads, and the rest is left to that."""

import io
import struct

import numpy as np
import pytest
import soundfile

from timbre.shards.decode import pcm_samples

WAVE = np.random.default_rng(0).integers(-(2**15), 2**15, 1001).astype(np.int16)


def encoded(subtype: str = "PCM_16", rate: int = 48_000, format: str = "WAV", **more: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, WAVE, rate, format=format, subtype=subtype, **more)
    return buffer.getvalue()


def with_chunk(data: bytes, chunk: bytes, before: bytes) -> bytes:
    """Put a chunk in front of another."""
    at = data.index(before)
    size = struct.unpack_from("<I", data, 4)[0] + len(chunk)
    return data[:4] + struct.pack("<I", size) + data[8:at] + chunk + data[at:]


PLAIN = encoded()
LIST = b"LIST" + struct.pack("<I", 6) + b"INFOab"
ODD = b"junk" + struct.pack("<I", 5) + b"12345\0"
READ = {
    "plain": PLAIN,
    "a chunk before the samples": with_chunk(PLAIN, LIST, b"data"),
    "an odd chunk before the format": with_chunk(PLAIN, ODD, b"fmt "),
    "more behind the samples": PLAIN + LIST,
}
LEFT = {
    "24 bit": encoded("PCM_24"),
    "float": encoded("FLOAT"),
    "another rate": encoded(rate=44_100),
    "big-endian": encoded(endian="BIG"),
    "extensible": encoded(format="WAVEX"),
    "FLAC": encoded(format="FLAC"),
    "cut in the samples": PLAIN[:-2],
    "cut in the header": PLAIN[:30],
    "no samples": PLAIN[:36],
    "nothing": b"",
}


@pytest.mark.parametrize("kind", READ)
def test_its_samples_are_those_of_libsndfile(kind: str) -> None:
    expected, _ = soundfile.read(io.BytesIO(READ[kind]), dtype="int16")
    samples = pcm_samples(memoryview(READ[kind]))
    assert samples is not None
    np.testing.assert_array_equal(samples, expected)
    np.testing.assert_array_equal(samples, WAVE)


@pytest.mark.parametrize("kind", LEFT)
def test_anything_else_is_left_to_a_library(kind: str) -> None:
    assert pcm_samples(memoryview(LEFT[kind])) is None


def test_two_channels_are_left_to_a_library() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([WAVE, WAVE], axis=1), 48_000, format="WAV", subtype="PCM_16")
    assert pcm_samples(memoryview(buffer.getvalue())) is None
