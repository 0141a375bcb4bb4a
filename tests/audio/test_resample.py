"""Another rate, block by block: the same samples as of the whole."""

import numpy as np
import pytest

from tests.audio.tone import tone
from timbre import audio
from timbre.audio import resample, resample_blocks, resampled_length
from timbre.errors import AudioError

RATES = [(44_100, 48_000), (48_000, 44_100), (8000, 48_000), (48_000, 8000), (192_000, 48_000),
         (11_025, 48_000), (22_050, 96_000), (48_000, 48_000)]  # fmt: skip


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
@pytest.mark.parametrize("samples", [1, 999, 60_001])
def test_blocks_give_the_samples_of_the_whole(rate_in: int, rate_out: int, samples: int) -> None:
    wave = np.random.default_rng(samples).standard_normal((2, samples)).astype(np.float32)
    places = np.sort(np.random.default_rng(1).integers(0, samples + 1, 12))
    blocks = np.split(wave, places, axis=1)
    whole = resample(wave, rate_in, rate_out)
    in_blocks = np.concatenate(list(resample_blocks(blocks, rate_in, rate_out)), axis=1)
    assert in_blocks.shape == whole.shape == (2, resampled_length(samples, rate_in, rate_out))
    np.testing.assert_allclose(in_blocks, whole, atol=3e-6)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 96000, 192000])
def test_resampling_keeps_tone_level_and_time(rate: int) -> None:
    output = audio.resample(tone(1000, rate), rate, 48000)
    expected = tone(1000, 48000)
    assert len(output) == len(expected)
    middle = slice(4800, -4800)
    assert np.abs(output[middle] - expected[middle]).max() < 1e-3


def test_resampling_down_leaves_no_alias() -> None:
    output = audio.resample(tone(15000, 48000), 48000, 16000)
    assert audio.level_db(output[1000:-1000]) < -70


def test_a_rate_without_a_workable_ratio_is_refused() -> None:
    with pytest.raises(AudioError, match="44101 Hz"):
        audio.resample(tone(100, 44101), 44101, 48000)
