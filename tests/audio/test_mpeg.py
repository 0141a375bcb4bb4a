"""MPEG audio: its length is that of its frames, whatever its headers say."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from timbre import audio
from timbre.audio.mpeg import parse_header
from timbre.errors import AudioError

RATES = [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
ID3V2 = b"ID3\4\0\0" + bytes([0, 0, 40, 2]) + bytes(40 * 128 + 2)
ID3V1 = b"TAG" + b"name".ljust(125)
APE = b"APETAGEX" + bytes([208, 7, 0, 0]) + (32 + 40).to_bytes(4, "little") + bytes(16 + 40)


def sound(rate: int, channels: int, seconds: float = 0.4, seed: int = 0) -> audio.Wave:
    rng = np.random.default_rng(seed)
    walk = rng.standard_normal((channels, round(seconds * rate))).cumsum(axis=1)
    wave: audio.Wave = (0.4 * walk / np.abs(walk).max()).astype(np.float32)
    return wave


def encode(wave: audio.Wave, rate: int) -> bytes:
    return audio.encode_wave(wave, rate, "MP3", "MPEG_LAYER_III")


def frames_of(data: bytes) -> list[bytes]:
    """The frames, the Info frame first."""
    frames = []
    while (header := parse_header(data[:4])) is not None:
        frames.append(data[: header.bytes])
        data = data[header.bytes :]
    return frames


def samples_of(frames: list[bytes]) -> int:
    header = parse_header(frames[0][:4])
    assert header is not None
    return len(frames) * header.samples


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", RATES)
def test_a_stream_that_does_not_say_its_length_has_that_of_all_its_frames(
    rate: int, channels: int
) -> None:
    whole = encode(sound(rate, channels), rate)
    bare = frames_of(whole)[1:]
    wave, _ = audio.decode_bytes(b"".join(bare), "bare.mp3")
    assert wave.shape == (channels, samples_of(bare))
    # The Info frame says what encoder and decoder add; what is between is the same sound.
    sound_alone, _ = audio.decode_bytes(whole, "whole.mp3")
    lag = len(wave[0]) - len(sound_alone[0])
    shift = min(
        range(lag + 1),
        key=lambda n: float(np.abs(wave[0, n : n + len(sound_alone[0])] - sound_alone[0]).max()),
    )
    np.testing.assert_allclose(
        wave[:, shift : shift + sound_alone.shape[1]], sound_alone, atol=1e-5
    )


def test_a_full_decoder_finds_the_same_samples() -> None:
    av = pytest.importorskip("av")
    bare = b"".join(frames_of(encode(sound(44_100, 2), 44_100))[1:])
    with av.open(io.BytesIO(bare)) as file:
        expected = np.concatenate([f.to_ndarray() for f in file.decode(audio=0)], axis=1)
    wave, _ = audio.decode_bytes(bare, "bare.mp3")
    np.testing.assert_allclose(wave, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("front", "back"),
    [(ID3V2, b""), (ID3V2 * 2, ID3V1), (b"", ID3V1), (b"", APE + ID3V1), (bytes(700), bytes(99))],
    ids=["ID3v2", "ID3v2 twice", "ID3v1", "APE", "zeros"],
)
@pytest.mark.parametrize("bare", [True, False])
def test_tags_and_padding_are_no_sound(front: bytes, back: bytes, bare: bool) -> None:
    data = encode(sound(22_050, 1), 22_050)
    if bare:
        data = b"".join(frames_of(data)[1:])
    alone, _ = audio.decode_bytes(data, "a.mp3")
    with_tags, _ = audio.decode_bytes(front + data + back, "a.mp3")
    np.testing.assert_array_equal(alone, with_tags)


@pytest.mark.parametrize("between", [b"", ID3V1 + ID3V2], ids=["bare", "tags"])
@pytest.mark.parametrize("bare", [True, False])
def test_files_one_behind_the_other_are_read_one_behind_the_other(
    between: bytes, bare: bool, tmp_path: Path
) -> None:
    parts = [encode(sound(44_100, 1, seconds, 3), 44_100) for seconds in (0.5, 0.3)]
    if bare:
        parts[1] = b"".join(frames_of(parts[1])[1:])
    waves = [audio.decode_bytes(part, "a.mp3")[0] for part in parts]
    (tmp_path / "a.mp3").write_bytes(between.join(parts))
    if bare and not between:
        return  # without a mark between them they are one stream
    both, _ = audio.read(tmp_path / "a.mp3")
    np.testing.assert_array_equal(both, np.concatenate(waves, axis=1))
    assert audio.info(tmp_path / "a.mp3").samples == both.shape[1]


def test_a_stretch_across_two_files_is_that_of_the_whole(tmp_path: Path) -> None:
    parts = [encode(sound(48_000, 1, 0.5, seed), 48_000) for seed in (1, 2)]
    (tmp_path / "a.mp3").write_bytes(b"".join(parts))
    whole = audio.read_mono(tmp_path / "a.mp3")
    with (tmp_path / "a.mp3").open("rb") as file:
        for start, samples in [(23_000, 3000), (10, 500), (24_000, 1000), (47_000, 2000)]:
            stretch = audio.read_stretch(file, "a.mp3", start, samples)
            expected = np.pad(whole, (0, 2000))[start : start + samples]
            np.testing.assert_allclose(stretch, expected, atol=1e-5)


def test_files_of_two_rates_in_one_are_refused() -> None:
    data = encode(sound(44_100, 1), 44_100) + encode(sound(48_000, 1), 48_000)
    with pytest.raises(AudioError, match=r"a\.mp3: holds sounds of different layouts"):
        audio.decode_bytes(data, "a.mp3")


def test_a_count_of_frames_that_was_never_filled_in_is_not_believed() -> None:
    """A Xing frame as it goes into a pipe: ``ffmpeg -f mp3 -`` cannot come back to it."""
    data = encode(sound(44_100, 1), 44_100)
    at = data.index(b"Xing") + 8
    without_count = data[:at] + bytes(4) + data[at + 4 :]
    wave, _ = audio.decode_bytes(without_count, "a.mp3")
    assert wave.shape[1] == samples_of(frames_of(data)[1:])
    less = data[:at] + (3).to_bytes(4, "big") + data[at + 4 :]
    np.testing.assert_array_equal(
        audio.decode_bytes(less, "a.mp3")[0], audio.decode_bytes(data, "a.mp3")[0]
    )


def test_what_breaks_off_or_is_damaged_is_refused() -> None:
    frames = frames_of(encode(sound(44_100, 1), 44_100))
    bare = b"".join(frames[1:])
    faults = {
        "breaks off after 5 of": b"".join(frames[:6]),
        "breaks off within its last frame": bare[:-50],
        "damaged: at byte": bare + np.random.default_rng(0).bytes(9000) + bare,
        "no MPEG frame": b"".join(frames[1:4]) + b"\1" * 5000,
    }
    for words, data in faults.items():
        with pytest.raises(AudioError, match=rf"a\.mp3: .*{words}"):
            audio.decode_bytes(data, "a.mp3")


def test_frames_have_the_lengths_that_an_encoder_gives_them() -> None:
    for rate in RATES:
        data = encode(sound(rate, 2), rate)
        frames = frames_of(data)
        assert b"".join(frames) == data
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            assert abs(file.frames - samples_of(frames)) < 5 * 1152
        headers = [parse_header(frame[:4]) for frame in frames]
        assert all(a and b and a.stream == b.stream for a, b in pairwise(headers))
    assert parse_header(b"RIFF") is None
    assert parse_header(b"\xff\xfb\x00\x00") is None  # free format
