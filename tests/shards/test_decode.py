"""Samples of a member: 16-bit WAV without a decoder, everything else by the nearest 16-bit samples."""

import io
import struct

import numpy as np
import pytest
import soundfile

from timbre.errors import ShardError
from timbre.shards.decode import count_samples, decode_segment, pcm_samples

WAVE = np.random.default_rng(0).integers(-(2**15), 2**15, 1001).astype(np.int16)


def encode(subtype: str = "PCM_16", rate: int = 48_000, format: str = "WAV", **more: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, WAVE, rate, format=format, subtype=subtype, **more)
    return buffer.getvalue()


def with_chunk(data: bytes, chunk: bytes, before: bytes) -> bytes:
    """Put a chunk in front of another."""
    at = data.index(before)
    size = struct.unpack_from("<I", data, 4)[0] + len(chunk)
    return data[:4] + struct.pack("<I", size) + data[8:at] + chunk + data[at:]


PLAIN = encode()
LIST = b"LIST" + struct.pack("<I", 6) + b"INFOab"
ODD = b"junk" + struct.pack("<I", 5) + b"12345\0"
DECODABLE = {
    "plain": PLAIN,
    "a chunk before the samples": with_chunk(PLAIN, LIST, b"data"),
    "an odd chunk before the format": with_chunk(PLAIN, ODD, b"fmt "),
    "more behind the samples": PLAIN + LIST,
}
BEYOND_FORMAT = {
    "24 bit": encode("PCM_24"),
    "float": encode("FLOAT"),
    "another rate": encode(rate=44_100),
    "big-endian": encode(endian="BIG"),
    "extensible": encode(format="WAVEX"),
    "FLAC": encode(format="FLAC"),
    "cut in the samples": PLAIN[:-2],
    "cut in the header": PLAIN[:30],
    "no samples": PLAIN[:36],
    "nothing": b"",
}


@pytest.mark.parametrize("kind", DECODABLE)
def test_its_samples_are_those_of_libsndfile(kind: str) -> None:
    expected, _ = soundfile.read(io.BytesIO(DECODABLE[kind]), dtype="int16")
    samples = pcm_samples(memoryview(DECODABLE[kind]))
    assert samples is not None
    np.testing.assert_array_equal(samples, expected)
    np.testing.assert_array_equal(samples, WAVE)


@pytest.mark.parametrize("kind", BEYOND_FORMAT)
def test_anything_else_is_left_to_a_library(kind: str) -> None:
    assert pcm_samples(memoryview(BEYOND_FORMAT[kind])) is None


def test_two_channels_are_left_to_a_library() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([WAVE, WAVE], axis=1), 48_000, format="WAV", subtype="PCM_16")
    assert pcm_samples(memoryview(buffer.getvalue())) is None


SUBTYPES = [
    ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "PCM_32"),
    ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAVEX", "FLOAT"), ("WAVEX", "PCM_16"), ("RF64", "FLOAT"),
    ("FLAC", "PCM_S8"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "subtype"), SUBTYPES)
def test_any_subformat_gives_the_nearest_16_bits_of_a_float_read(format: str, subtype: str) -> None:
    wave = np.random.default_rng(1).uniform(-1.1, 1.1, 70_000)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 48_000, format=format, subtype=subtype)
    data = buffer.getvalue()
    floats, _ = soundfile.read(io.BytesIO(data), dtype="float64")
    expected = np.clip(np.rint(floats * 32768), -32768, 32767).astype(np.int16)
    assert np.abs(expected).max() > 30_000
    np.testing.assert_array_equal(decode_segment(data, 0, 70_000, "a"), expected[:70_000])
    np.testing.assert_array_equal(decode_segment(data, 66_000, 100, "a"), expected[66_000:66_100])
    assert count_samples(data, "a") == len(expected) >= 70_000


def test_what_is_not_finite_is_refused_by_name() -> None:
    wave = np.zeros(1000)
    wave[500] = np.nan
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 48_000, format="WAV", subtype="FLOAT")
    with pytest.raises(ShardError, match=r"a\.tar: k\.clean\.wav: samples that are not finite"):
        decode_segment(buffer.getvalue(), 0, 1000, "a.tar: k.clean.wav")


def test_a_header_that_claims_too_much_takes_no_memory_for_it() -> None:
    data = bytearray(encode(format="FLAC"))
    data[21] |= 0x0F  # the samples of a FLAC's first block are 36 bits
    data[22:26] = b"\xff" * 4
    with pytest.raises(ShardError, match=r"1001 samples from 0, expected 68719476735|decoded"):
        decode_segment(bytes(data), 0, 2**36 - 1, "a")
