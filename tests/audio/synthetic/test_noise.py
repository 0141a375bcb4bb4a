from typing import get_args

import numpy as np
import pytest

from tests.audio.synthetic.spectrum import spectrum_db
from timbre.audio.synthetic.noise import NOISE_LEVEL_DB, NoiseKind, noise

KINDS = get_args(NoiseKind)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_its_level_whatever_its_kind(kind: NoiseKind) -> None:
    wave = noise(kind, 1.5, np.random.default_rng(2))
    level_db = 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)))
    assert abs(level_db - NOISE_LEVEL_DB) < 0.01
    assert np.abs(wave).max() < 1.0
    np.testing.assert_array_equal(wave, noise(kind, 1.5, np.random.default_rng(2)))


def test_noises_differ_in_colour_and_in_peaks() -> None:
    waves = {kind: noise(kind, 2.0, np.random.default_rng(4)) for kind in KINDS}
    tilt = {kind: np.subtract(*spectrum_db(wave, 0.5)[[1, 16]]) for kind, wave in waves.items()}
    assert abs(tilt["white"]) < 1.5
    assert 8 < tilt["pink"] < 15
    assert tilt["wind"] > 25
    crest = {kind: np.abs(wave).max() / wave.std() for kind, wave in waves.items()}
    assert crest["clicks"] > 2 * crest["white"]
