"""Audio files out."""

from pathlib import Path

import numpy as np
import pytest

from tests.audio.tone import tone
from timbre import audio
from timbre.errors import AudioError


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


def test_a_format_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="xyz"):
        audio.write(tmp_path / "a.xyz", tone(440, 48000), 48000)
    with pytest.raises(AudioError, match="12 channels"):
        audio.write(tmp_path / "a.flac", np.zeros((12, 100), np.float32), 48000)
    assert not list(tmp_path.iterdir())
