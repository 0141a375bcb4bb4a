"""A FLAC file's length is that of its frames, whatever its header says."""

import io

import numpy as np
import pytest
import soundfile

from timbre import audio
from timbre.audio.flac import SAMPLES_AT
from timbre.errors import AudioError


def encode(samples: int, channels: int = 1, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    wave = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, channels))
    soundfile.write(buffer, wave, 44_100, subtype, format="FLAC")
    return buffer.getvalue()


def with_length(data: bytes, samples: int) -> bytes:
    """The file with another number of samples in its header; 0 is what a pipe leaves."""
    field = (data[SAMPLES_AT] >> 4 << 36 | samples).to_bytes(5, "big")
    return data[:SAMPLES_AT] + field + data[SAMPLES_AT + 5 :]


@pytest.mark.parametrize(("channels", "subtype"), [(1, "PCM_16"), (2, "PCM_24"), (6, "PCM_S8")])
@pytest.mark.parametrize("samples", [1, 255, 4096, 4097, 100_000, 600_000])
def test_a_file_out_of_a_pipe_is_read_to_its_end(samples: int, channels: int, subtype: str) -> None:
    data = encode(samples, channels, subtype)
    wave, rate = audio.decode_bytes(data, "a")
    assert wave.shape == (channels, samples) and rate == 44_100
    for more in (b"", b"TAG" + bytes(125)):
        piped = with_length(data, 0) + more
        np.testing.assert_array_equal(audio.decode_bytes(piped, "a")[0], wave)
        assert audio.header(io.BytesIO(piped), "a").samples == samples


def test_a_header_that_says_less_than_there_is_is_refused() -> None:
    data = with_length(encode(10_000), 5_000)
    with pytest.raises(AudioError, match=r"a: its header says 5000 samples, .* ends at 10000"):
        audio.decode_bytes(data, "a")


def test_a_file_that_breaks_off_is_refused_with_and_without_a_length() -> None:
    data = encode(10_000)
    for whole in (data, with_length(data, 0)):
        for lost in (1, 500, len(data) // 2):
            with pytest.raises(AudioError, match=r"^a: "):
                audio.decode_bytes(whole[:-lost], "a")


def test_sound_that_looks_like_a_frames_beginning_is_sound() -> None:
    wave = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, 4_000, dtype=np.int16)
    for code in range(16):  # each length that a frame's header may name, behind its mark
        wave[-100 + 3 * code : -98 + 3 * code] = np.array([0xFFF8, code << 12], np.uint16)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 44_100, "PCM_16", format="FLAC")
    data = buffer.getvalue()
    assert b"\xff\xf8\x10\x00" in data, "noise is stored as it is"
    for file in (data, with_length(data, 0)):
        assert np.array_equal(audio.decode_bytes(file, "a")[0][0] * (1 << 15), wave)


def test_a_length_that_no_memory_holds_is_not_believed() -> None:
    data = with_length(encode(10_000), (1 << 36) - 1)
    for file in (data, data[:-100]):
        with pytest.raises(AudioError, match=r"^a: "):
            audio.decode_bytes(file, "a")
