"""Another rate, block by block: the same samples as of the whole."""

import numpy as np
import pytest

from timbre.audio.levels import ActiveLevel, active_level_db
from timbre.audio.resample import resample, resample_blocks, resampled_length

RATES = [(44_100, 48_000), (48_000, 44_100), (8000, 48_000), (48_000, 8000), (192_000, 48_000),
         (11_025, 48_000), (22_050, 96_000), (48_000, 48_000)]  # fmt: skip


@pytest.mark.parametrize(("rate_in", "rate_out"), RATES)
@pytest.mark.parametrize("samples", [1, 999, 60_001])
def test_blocks_give_the_samples_of_the_whole(rate_in: int, rate_out: int, samples: int) -> None:
    wave = np.random.default_rng(samples).standard_normal((2, samples)).astype(np.float32)
    places = np.sort(np.random.default_rng(1).integers(0, samples + 1, 12))
    blocks = np.split(wave, places, axis=1)
    whole = resample(wave, rate_in, rate_out)
    made = np.concatenate(list(resample_blocks(blocks, rate_in, rate_out)), axis=1)
    assert made.shape == whole.shape == (2, resampled_length(samples, rate_in, rate_out))
    np.testing.assert_allclose(made, whole, atol=3e-6)


@pytest.mark.parametrize("samples", [1, 959, 960, 100_003])
def test_the_level_does_not_depend_on_the_blocks(samples: int) -> None:
    rng = np.random.default_rng(0)
    wave = (rng.standard_normal((3, samples)) * rng.uniform(0, 1, samples)).astype(np.float32)
    wave[:, samples // 3 : samples // 2] *= 1e-4  # a pause
    meter = ActiveLevel()
    for block in np.split(wave, np.sort(rng.integers(0, samples + 1, 9)), axis=1):
        meter.add(block)
    assert meter.level_db() == [active_level_db(row) for row in wave]
