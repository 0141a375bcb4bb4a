"""Pictures show levels that can be compared."""

import io

import numpy as np
from PIL import Image

from timbre.audio import Wave
from timbre.audio.spectrogram import LEVELS, ROWS, levels, palette, peak_power, picture, png


def tone(amplitude: float) -> Wave:
    time = np.arange(48_000) / 48_000
    return (amplitude * np.sin(2 * np.pi * 6000 * time)).astype(np.float32)


def test_a_tone_is_a_bright_line_at_its_frequency() -> None:
    wave = tone(0.1)
    image = levels(wave, peak_power(wave))
    assert image.shape == (ROWS, 101)
    row = int(image.astype(int).mean(axis=1).argmax())
    assert abs(ROWS - 1 - row - 6000 / 24_000 * ROWS) <= 1  # 0 Hz at the bottom
    assert image.max() == LEVELS - 1


def test_levels_are_relative_to_the_power_that_is_given() -> None:
    loud, quiet = tone(0.1), tone(0.001)
    full = peak_power(loud)
    # 40 of the 90 dB.
    assert int(levels(quiet, full).max()) == round((1 - 40 / 90) * (LEVELS - 1))
    assert int(levels(quiet, peak_power(quiet)).max()) == LEVELS - 1
    assert levels(np.zeros(480, np.float32), full).max() == 0


def test_sound_too_short_for_a_frame_and_silence_have_a_picture() -> None:
    assert levels(tone(0.1)[:5], 1.0).shape == (ROWS, 1)
    silence = np.zeros(480, np.float32)
    assert levels(silence, peak_power(silence)).shape == (ROWS, 2)


def test_the_png_shows_the_very_colours_of_the_picture() -> None:
    wave = tone(0.1) + tone(0.01)[::-1]
    image = levels(wave, peak_power(wave))
    png_image = Image.open(io.BytesIO(png(image)))
    assert png_image.mode == "P"
    assert np.array_equal(np.asarray(png_image.convert("RGB")), picture(image))
    assert picture(image).shape == (*image.shape, 3)


def test_brighter_is_louder() -> None:
    brightness = palette().astype(int).sum(axis=1)
    assert (np.diff(brightness) >= 0).all()
    assert brightness[0] == 0
