"""Pictures tell levels that can be compared."""

import numpy as np

from timbre.train.watch.telemetry import spectrogram, triple


def tone(amplitude: float) -> np.ndarray:
    time = np.arange(48_000) / 48_000
    return (amplitude * np.sin(2 * np.pi * 6000 * time)).astype(np.float32)


def test_a_tone_is_a_bright_line_at_its_frequency() -> None:
    picture = spectrogram(tone(0.1))
    assert picture.shape == (513, 92, 3)
    row = int(picture.sum(axis=2).mean(axis=1).argmax())
    assert 512 - row == 6000 / 24_000 * 512  # 0 Hz at the bottom


def test_a_triple_has_one_range_of_colours_and_sound_too_short_for_a_frame_has_a_picture() -> None:
    quiet, loud = tone(0.001), tone(0.1)
    picture = triple([quiet, loud, loud])
    top, middle, bottom = picture[:513], picture[515:1028], picture[1030:]
    assert picture.shape == (3 * 513 + 4, 92, 3)
    assert (picture[513:515] == 255).all()
    assert np.array_equal(middle, bottom) and np.array_equal(bottom, spectrogram(loud))
    assert top.max() < bottom.max()  # alone, it would be as bright
    assert spectrogram(quiet).max() == bottom.max()
    assert triple([loud[:5]] * 3).shape == (3 * 513 + 4, 1, 3)
