"""Levels in dB."""

import math

import numpy as np
import pytest

from tests.audio.tone import tone
from timbre import audio
from timbre.audio.levels import ActiveLevel, active_level_db


def test_levels_have_their_closed_forms() -> None:
    sine = tone(1000, 48000)
    assert abs(audio.level_db(sine) - 20 * math.log10(0.5 / math.sqrt(2))) < 1e-3
    with_pause = np.concatenate([sine, np.zeros(10 * len(sine), np.float32)])
    assert abs(audio.active_level_db(with_pause) - audio.level_db(sine)) < 1e-3
    assert audio.level_db(np.zeros(10, np.float32)) == audio.SILENCE_DB
    assert audio.active_level_db(np.zeros(4800, np.float32)) == audio.SILENCE_DB
    assert abs(audio.gain(6.0206) - 2) < 1e-4


@pytest.mark.parametrize("samples", [1, 959, 960, 100_003])
def test_the_level_does_not_depend_on_the_blocks(samples: int) -> None:
    rng = np.random.default_rng(0)
    wave = (rng.standard_normal((3, samples)) * rng.uniform(0, 1, samples)).astype(np.float32)
    wave[:, samples // 3 : samples // 2] *= 1e-4  # a pause
    meter = ActiveLevel()
    for block in np.split(wave, np.sort(rng.integers(0, samples + 1, 9)), axis=1):
        meter.add(block)
    assert meter.level_db() == [active_level_db(row) for row in wave]
