"""Noises that try a restorer."""

import numpy as np
import pytest

from timbre.audio.synthetic.probe_noise import BANDS_HZ, PROBE_KINDS, probe_noise
from timbre.audio.waveform import SAMPLE_RATE

SAMPLES = SAMPLE_RATE


def spectrum(kind: str) -> tuple[np.ndarray, np.ndarray]:
    wave = probe_noise(kind, SAMPLES, np.random.default_rng(1))
    return np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE), np.abs(np.fft.rfft(wave)) ** 2


@pytest.mark.parametrize("kind", PROBE_KINDS)
def test_every_kind_has_unit_level_and_depends_on_the_seed_alone(kind: str) -> None:
    first, same, other = (probe_noise(kind, SAMPLES, np.random.default_rng(n)) for n in (1, 1, 2))
    assert first.dtype == np.float32 and first.shape == (SAMPLES,)
    assert np.mean(first.astype(float) ** 2) == pytest.approx(1, rel=1e-4)
    assert np.array_equal(first, same) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("kind", "per_octave"), [("white", 0.0), ("pink", -3.0), ("brown", -6.0), ("blue", 3.0)]
)
def test_a_colour_rises_by_so_much_an_octave(kind: str, per_octave: float) -> None:
    hz, power = spectrum(kind)
    octaves = [power[(hz >= low) & (hz < 2 * low)].mean() for low in (1000, 2000, 4000, 8000)]
    slopes = np.diff(10 * np.log10(octaves))
    assert slopes == pytest.approx([per_octave] * 3, abs=0.6)


@pytest.mark.parametrize("high_hz", BANDS_HZ)
def test_a_band_ends_where_its_name_says(high_hz: int) -> None:
    hz, power = spectrum(f"up to {high_hz // 1000} kHz")
    assert power[hz > high_hz + 1].sum() < 1e-9 * power.sum()
    assert power[(hz > 0.9 * high_hz) & (hz <= high_hz)].mean() > 0.5 * power[hz <= high_hz].mean()


@pytest.mark.parametrize("kind", ["white", "blue", "hiss", "clicks", "crackle", "20 to 24 kHz"])
def test_what_recordings_lack_is_there(kind: str) -> None:
    """The energy above 20 kHz is at least its share of the band."""
    hz, power = spectrum(kind)
    assert power[hz >= 20_000].sum() > 0.15 * power.sum()
