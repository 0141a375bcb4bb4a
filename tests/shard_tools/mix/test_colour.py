"""Colour: a low-pass and an equaliser."""

import numpy as np
import pytest

from shard_tools.mix.colour import CORNERS_HZ, PLAIN, Colour, colour_wave
from timbre.audio import SAMPLE_RATE, Wave

SAMPLES = 48_000
CURVE = (3.0, -6.0, 0.0, 5.0, -2.0, 6.0, -4.0, 1.0)


def white(seed: int = 0) -> Wave:
    return np.random.default_rng(seed).standard_normal(SAMPLES).astype(np.float32)


def band_db(wave: Wave, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(wave.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    return float(10 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].mean() + 1e-20))


def test_no_colour_changes_no_bit() -> None:
    wave = white()
    np.testing.assert_array_equal(colour_wave(wave, PLAIN), wave)


@pytest.mark.parametrize("cut_hz", [6000.0, 11000.0, 22000.0])
def test_a_low_pass_leaves_what_is_below_and_nothing_above(cut_hz: float) -> None:
    wave = white()
    low = colour_wave(wave, Colour(cut_hz))
    assert low.shape == wave.shape and low.dtype == np.float32
    below = (100.0, cut_hz - 600)
    assert abs(band_db(low, *below) - band_db(wave, *below)) < 0.1
    # The end of the clip is a step, which smears a little.
    assert band_db(low, cut_hz + 300, 24001) < band_db(wave, cut_hz + 300, 24001) - 35


def test_an_equaliser_has_its_gains_at_its_corners() -> None:
    wave = white()
    output = colour_wave(wave, Colour(None, CURVE))
    for corner, gain_db in list(zip(CORNERS_HZ, CURVE, strict=True))[1:-1]:
        near = (corner * 0.97, corner * 1.03)
        assert abs(band_db(output, *near) - band_db(wave, *near) - gain_db) < 0.6


@pytest.mark.parametrize("colour", [Colour(8000.0), Colour(None, CURVE), Colour(14000.0, CURVE)])
def test_a_colour_delays_nothing_and_is_linear(colour: Colour) -> None:
    one, other = white(1), white(2)
    click = np.zeros(SAMPLES, np.float32)
    click[20_000] = 1.0
    assert np.argmax(np.abs(colour_wave(click, colour))) == 20_000
    both = colour_wave(one + other, colour)
    apart = colour_wave(one, colour) + colour_wave(other, colour)
    np.testing.assert_allclose(both, apart, atol=1e-4)
