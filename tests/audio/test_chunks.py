"""Files of chunks: all of their sound is read, whatever their headers say."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.tone import tone
from timbre import audio
from timbre.audio.chunks import W64_ID_TAIL, W64_MARK, layout_of
from timbre.errors import AudioError

FORMATS = ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU"]
MARK = {"W64": b"data\xf3\xac", "AIFF": b"SSND", "AU": b".snd"}


def encode(format: str, endian: str = "FILE") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(440, 48_000), 48_000, "PCM_16", endian, format)
    return buffer.getvalue()


def with_no_length(data: bytes, format: str, order: str = "<") -> bytes:
    """Return the file as a recorder leaves it that never wrote the number of samples."""
    if format == "W64":
        at = data.index(MARK[format]) + 16
        return data[:at] + struct.pack("<Q", 24) + data[at + 8 :]
    at = data.index(MARK.get(format, b"data")) + (8 if format == "AU" else 4)
    if format == "CAF":
        return data[:at] + bytes(8) + data[at + 8 :]
    return data[:at] + bytes(4) + data[at + 4 :]


@pytest.mark.parametrize("format", FORMATS)
def test_a_header_that_says_0_bytes_of_sound_is_noted_and_the_sound_is_read(format: str) -> None:
    data = encode(format)
    wave, _ = audio.decode_bytes(data, "a")
    live = with_no_length(data, format)
    assert live != data and len(live) == len(data)
    np.testing.assert_array_equal(audio.decode_bytes(live, "a")[0], wave)
    note = audio.header(io.BytesIO(live), "a").note
    assert note is not None and "0 bytes" in note and "48000 follow" in note
    assert audio.header(io.BytesIO(data), "a").note is None


def test_big_endian_wav_is_the_same_kind() -> None:
    data = encode("WAV", "BIG")
    assert data[:4] == b"RIFX"
    np.testing.assert_array_equal(
        audio.decode_bytes(with_no_length(data, "WAV"), "a")[0], audio.decode_bytes(data, "a")[0]
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_breaks_off_is_refused(format: str) -> None:
    data = encode(format)
    for length in (len(data) * 2 // 3, len(data) - 4000):
        with pytest.raises(AudioError, match="a: breaks off after"):
            audio.decode_bytes(data[:length], "a")


def test_chunks_behind_the_sound_are_no_sound_and_no_note() -> None:
    data = encode("WAV")
    wave, _ = audio.decode_bytes(data, "a")
    for more in (b"LIST\4\0\0\0INFO", b"id3 \3\0\0\0abc\0", bytes(500)):
        assert audio.header(io.BytesIO(data + more), "a").note is None
        np.testing.assert_array_equal(audio.decode_bytes(data + more, "a")[0], wave)


def test_what_follows_the_sound_and_is_no_chunk_is_noted() -> None:
    data = encode("WAV") + np.random.default_rng(0).bytes(3000)
    note = audio.header(io.BytesIO(data), "a").note
    assert note is not None and note.startswith("3000 bytes behind the sound")


@pytest.mark.parametrize("format", ["WAV", "W64", "FLAC"])
def test_a_second_file_behind_the_first_is_refused(format: str) -> None:
    data = encode(format)
    with pytest.raises(AudioError, match=rf"a: another .*begins in it at byte {len(data)}"):
        audio.header(io.BytesIO(data + data), "a")
    with pytest.raises(AudioError, match=rf"a: another .*begins in it at byte {len(data)}"):
        audio.decode_bytes(data + data, "a")


def test_mpeg_audio_in_wav_is_refused_as_that() -> None:
    data = encode("WAV")
    at = data.index(b"fmt ") + 8
    with pytest.raises(AudioError, match=r"a: is MPEG audio in a WAV file.*ffmpeg"):
        audio.header(io.BytesIO(data[:at] + b"\x55\0" + data[at + 2 :]), "a")


def test_a_length_that_went_round_32_bits_is_mended(tmp_path: Path) -> None:
    """A recorder wrote more than 4 GiB of WAV. The file here is sparse."""
    head = encode("WAV")[:44]
    length = (1 << 32) + 200_000
    with (tmp_path / "long.wav").open("wb") as file:
        file.write(head[:40] + struct.pack("<I", length % (1 << 32)))
        file.truncate(44 + length)
    with (tmp_path / "long.wav").open("rb") as file:
        layout = layout_of(file, "long.wav")
        assert layout is not None and layout.note is not None and "no room" in layout.note
        assert audio.header(file, "long.wav").samples == length // 2


@pytest.mark.parametrize(("format", "subtype"), [("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"),
                                                  ("W64", "IMA_ADPCM"), ("WAV", "GSM610")])  # fmt: skip
def test_the_padding_of_a_codec_is_no_sound_where_the_file_says_how_long_it_is(
    format: str, subtype: str
) -> None:
    buffer = io.BytesIO()
    wave = tone(440, 8000, 0.3)
    soundfile.write(buffer, wave, 8000, subtype, format=format)
    data = buffer.getvalue()
    at = data.index(b"fact") + (24 if format == "W64" else 8)
    with_length = data[:at] + struct.pack("<I", len(wave)) + data[at + 4 :]
    frames = soundfile.info(io.BytesIO(data)).frames
    assert frames > len(wave)
    assert audio.decode_bytes(with_length, "a")[0].shape == (1, len(wave))
    assert audio.header(io.BytesIO(with_length), "a").samples == len(wave)
    # What cannot be the padding of one block is not believed.
    wrong = data[:at] + struct.pack("<I", 10) + data[at + 4 :]
    assert audio.decode_bytes(wrong, "a")[0].shape == (1, frames)


@pytest.mark.parametrize(
    ("tag", "bits"), [(3, 32), (3, 64), (1, 24)], ids=["float", "double", "integers"]
)
def test_w64_that_says_behind_its_tag_what_its_samples_are_is_read_as_that(
    tag: int, bits: int
) -> None:
    """ffmpeg writes such files. libsndfile takes their floats for integers."""
    wave = tone(440, 4800).astype(np.float32)
    if tag == 3:
        samples = wave.astype(f"<f{bits // 8}").tobytes()
    else:
        integers = np.round(wave.astype(np.float64) * (1 << 23)).astype("<i4")
        samples = integers.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    width = bits // 8
    head = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 48_000, 48_000 * width, width, bits, 22, bits, 4)
    head += struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = b"".join(
        name + W64_ID_TAIL + struct.pack("<Q", 24 + len(content)) + content
        for name, content in [(b"fmt ", head), (b"data", samples)]
    )
    whole = W64_MARK + struct.pack("<Q", 40 + len(chunks)) + b"wave" + W64_ID_TAIL + chunks
    np.testing.assert_allclose(audio.decode_bytes(whole, "a")[0][0], wave, atol=1e-6)
    piped = whole[:16] + b"\xff" * 8 + whole[24:]
    at = piped.index(b"data" + W64_ID_TAIL) + 16
    piped = piped[:at] + b"\xff" * 8 + piped[at + 8 :]
    np.testing.assert_allclose(audio.decode_bytes(piped, "a")[0][0], wave, atol=1e-6)


def test_a_chunk_that_says_more_bytes_than_a_file_can_have_is_a_fault_of_the_file() -> None:
    data = audio.encode_wave(tone(440, 48_000, 0.1), 48_000, "CAF", "PCM_16")
    place = data.index(b"desc") + 4
    for size in (1 << 63, (1 << 64) - 1):
        with pytest.raises(AudioError, match=r"^a: "):
            audio.decode_bytes(data[:place] + size.to_bytes(8, "big") + data[place + 8 :], "a")
