"""Audio files in and out."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from timbre.audio import decode as audio
from timbre.errors import AudioError


def tone(hz: float, rate: int, seconds: float = 0.5) -> audio.Wave:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_int16_samples_survive_a_round_trip_bit_for_bit(tmp_path: Path, format: str) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 1000, dtype=np.int16)
    wave = samples.astype(np.float32) / 32768
    audio.write(tmp_path / f"a.{format}", wave, 48000)
    back, rate = audio.read(tmp_path / f"a.{format}")
    assert rate == 48000
    np.testing.assert_array_equal(audio.to_int16(back[0]), samples)


def test_channels_and_rate_survive(tmp_path: Path) -> None:
    wave = np.stack([tone(440, 44100), -tone(880, 44100)])
    audio.write(tmp_path / "a.wav", wave, 44100, "FLOAT")
    back, rate = audio.read(tmp_path / "a.wav")
    assert rate == 44100
    np.testing.assert_array_equal(back, wave)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 96000, 192000])
def test_resampling_keeps_tone_level_and_time(rate: int) -> None:
    resampled = audio.resample(tone(1000, rate), rate, 48000)
    expected = tone(1000, 48000)
    assert len(resampled) == len(expected)
    middle = slice(4800, -4800)
    assert np.abs(resampled[middle] - expected[middle]).max() < 1e-3


def test_resampling_down_leaves_no_alias() -> None:
    aliased = audio.resample(tone(15000, 48000), 48000, 16000)
    assert audio.level_db(aliased[1000:-1000]) < -70


def test_a_rate_without_a_workable_ratio_is_refused() -> None:
    with pytest.raises(AudioError, match="44101 Hz"):
        audio.resample(tone(100, 44101), 44101, 48000)


def test_read_mono_is_the_mean_of_the_channels_at_48_khz(tmp_path: Path) -> None:
    wave = np.stack([tone(500, 24000), np.zeros_like(tone(500, 24000))])
    audio.write(tmp_path / "a.wav", wave, 24000, "FLOAT")
    mono = audio.read_mono(tmp_path / "a.wav")
    assert mono.shape == (24000,)
    assert abs(audio.level_db(mono[2400:-2400]) - 20 * math.log10(0.25 / math.sqrt(2))) < 0.01


def test_unusable_files_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is no audio")
    audio.write(tmp_path / "whole.flac", tone(440, 48000), 48000)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 48000, subtype="FLOAT")
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), 48000)
    for name in ["empty.wav", "text.wav", "cut.flac", "nan.wav", "nothing.wav"]:
        with pytest.raises(AudioError, match=name):
            audio.read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        audio.read(tmp_path / "gone.wav")


def test_a_format_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="xyz"):
        audio.write(tmp_path / "a.xyz", tone(440, 48000), 48000)
    with pytest.raises(AudioError, match="12 channels"):
        audio.write(tmp_path / "a.flac", np.zeros((12, 100), np.float32), 48000)
    assert not list(tmp_path.iterdir())


def test_levels_have_their_closed_forms() -> None:
    sine = tone(1000, 48000)
    assert abs(audio.level_db(sine) - 20 * math.log10(0.5 / math.sqrt(2))) < 1e-3
    paused = np.concatenate([sine, np.zeros(10 * len(sine), np.float32)])
    assert abs(audio.active_level_db(paused) - audio.level_db(sine)) < 1e-3
    assert audio.level_db(np.zeros(10, np.float32)) == audio.SILENCE_DB
    assert audio.active_level_db(np.zeros(4800, np.float32)) == audio.SILENCE_DB
    assert abs(audio.gain(6.0206) - 2) < 1e-4
