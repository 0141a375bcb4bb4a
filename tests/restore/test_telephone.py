"""A telephone's sound at 48 kHz: what is restored ends where the sound did."""

import numpy as np
import pytest

from tests.restore.sounds import noisy
from timbre.audio import Wave, level_db, resample
from timbre.restore import Restorer


@pytest.fixture(scope="module")
def offline() -> Restorer:
    return Restorer.load(device="cpu")


def band_db(wave: Wave, low_hz: float, high_hz: float) -> float:
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1 / 48_000)
    spectrum[(hz < low_hz) | (hz >= high_hz)] = 0
    return level_db(np.fft.irfft(spectrum, len(wave)).astype(np.float32))


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_no_highs_are_invented_above_a_telephones(offline: Restorer, rate: int) -> None:
    wave = resample(noisy(1.5, 4), 48_000, rate)
    wave = (np.round(wave * 32_768) / 32_768).astype(np.float32)  # as a file has it
    restored = offline(wave, rate, rate=48_000)
    edge_hz = rate / 2
    assert band_db(restored, 1.1 * edge_hz, 24_000) < band_db(restored, 100, edge_hz) - 60
    # It did repair what there is.
    assert np.abs(restored - offline(wave, rate, strength=0.0, rate=48_000)).max() > 1e-3
