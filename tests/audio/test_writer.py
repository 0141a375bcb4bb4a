"""Audio files written in blocks."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from timbre.audio import AudioInfo, create, info
from timbre.audio.writer import file_format
from timbre.errors import AudioError


@pytest.mark.parametrize("ending", ["aiff", "aif", "au"])
def test_more_than_32_bits_of_length_can_say_is_refused_before_anything_is_written(
    tmp_path: Path, ending: str
) -> None:
    like = AudioInfo((1 << 27) + 1000, 48_000, 8, "AIFF", "PCM_32")
    with (
        pytest.raises(AudioError, match=rf"big\.{ending}: .* cannot hold 4\.0 GiB"),
        create(f"{tmp_path}/big.{ending}", like),
    ):
        raise AssertionError("opened")
    assert not list(tmp_path.iterdir())


def test_long_wav_is_rf64_and_other_long_formats_stay() -> None:
    like = AudioInfo(1 << 31, 48_000, 1, "WAV", "PCM_24")
    assert file_format("a.wav", like) == ("RF64", "PCM_24")
    assert file_format("a.caf", like) == ("CAF", "PCM_24")
    assert file_format("a.w64", like) == ("W64", "PCM_24")


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_a_codec_that_pads_is_written_without_so_that_the_length_stays(
    tmp_path: Path, subtype: str
) -> None:
    like = AudioInfo(1000, 8000, 1, "WAV", subtype)
    with create(f"{tmp_path}/a.wav", like) as writer:
        writer.write(np.zeros((1, 1000), np.float32))
    assert info(tmp_path / "a.wav").samples == 1000
    assert soundfile.info(tmp_path / "a.wav").subtype == "PCM_16"
