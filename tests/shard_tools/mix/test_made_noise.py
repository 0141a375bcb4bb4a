"""Made-up noises."""

from itertools import pairwise

import numpy as np
import pytest

from shard_tools.mix.made_noise import HISS, KINDS, MadeNoise, make_noise
from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave

ALL = (*KINDS, HISS)
SAMPLES = 4 * SAMPLE_RATE


def octave_slope_db(wave: Wave) -> float:
    """Return how the density of power changes an octave, from 200 Hz to 20 kHz, fitted."""
    power = np.abs(np.fft.rfft(wave.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    edges = np.geomspace(200, 20_000, 14)
    levels = [
        10 * np.log10(power[(hz >= low) & (hz < high)].mean()) for low, high in pairwise(edges)
    ]
    return float(np.polyfit(np.log2(edges[:-1]), levels, 1)[0])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("seed", range(8))
def test_a_noise_is_a_finite_function_of_kind_seed_and_length(kind: str, seed: int) -> None:
    wave = make_noise(MadeNoise(kind, seed), SAMPLES)
    assert wave.shape == (SAMPLES,) and wave.dtype == np.float32 and np.isfinite(wave).all()
    assert abs(audio.level_db(wave)) < 0.01
    np.testing.assert_array_equal(wave, make_noise(MadeNoise(kind, seed, -6.0), SAMPLES))
    assert not np.array_equal(wave, make_noise(MadeNoise(kind, seed + 100), SAMPLES))


@pytest.mark.parametrize("kind", ALL)
def test_short_noises_can_be_made(kind: str) -> None:
    for samples in (480, 24_001):
        assert make_noise(MadeNoise(kind, 1), samples).shape == (samples,)


@pytest.mark.parametrize(
    ("kind", "slope_db"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02), ("blue", 3.01)]
)
def test_coloured_noises_have_their_slope(kind: str, slope_db: float) -> None:
    slopes = [octave_slope_db(make_noise(MadeNoise(kind, seed), SAMPLES)) for seed in range(6)]
    assert abs(float(np.median(slopes)) - slope_db) < 0.3


def test_most_kinds_reach_the_top_octave() -> None:
    """What recordings lack: power above 20 kHz, within 40 dB of an even spectrum."""
    reaching = 0
    for kind in KINDS:
        for seed in range(10):
            wave = make_noise(MadeNoise(kind, seed), SAMPLE_RATE).astype(np.float64)
            power = np.abs(np.fft.rfft(wave)) ** 2
            top = power[len(power) * 20 // 24 :].sum() / power.sum()
            reaching += bool(top > 4 / 24 * 1e-4)
    assert reaching > 0.55 * 10 * len(KINDS)


def test_names_tell_noises_apart() -> None:
    names = {MadeNoise(kind, seed).name for kind in ALL for seed in range(5)}
    assert len(names) == 5 * len(ALL)
    assert all(name.startswith("made-") for name in names)
