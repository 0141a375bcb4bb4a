import numpy as np
import pytest
from numpy.typing import NDArray

from tests.audio.synthetic.spectrum import spectrum_db
from timbre.audio.synthetic.voice import speaker, voice

RATE = 48_000


def pitch_of(wave: NDArray[np.float32]) -> float:
    """Median over the louder frames of the strongest lag of the autocorrelation."""
    pitches = []
    for frame in np.lib.stride_tricks.sliding_window_view(wave, 3840)[::1920]:
        if frame.std() < 0.5 * wave.std():
            continue
        alike = np.fft.irfft(np.abs(np.fft.rfft(frame, 8192)) ** 2)
        lags = np.arange(RATE // 400, RATE // 60)
        pitches.append(RATE / lags[np.argmax(alike[lags])])
    return float(np.median(pitches))


def test_voice_is_a_function_of_its_generator() -> None:
    one, same, other = (voice(1.0, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seconds", [0.05, 0.5, 2.0, 3.00001])
def test_voice_has_the_requested_length_and_range(seconds: float) -> None:
    wave = voice(seconds, np.random.default_rng(0))
    assert wave.shape == (round(seconds * RATE),)
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    assert np.abs(wave).max(initial=0.0) < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_voice_speaks_at_its_level(seed: int) -> None:
    wave = voice(3.0, np.random.default_rng(seed))
    power = np.square(wave[: len(wave) // 960 * 960]).reshape(-1, 960).mean(axis=1)
    active = power[power > 1e-4 * power.max()].mean()
    assert abs(10 * np.log10(active) + 25.0) < 1.0


@pytest.mark.parametrize("seed", range(4))
def test_voice_reaches_the_top_of_the_band_and_falls_off_towards_it(seed: int) -> None:
    loud = spectrum_db(voice(4.0, np.random.default_rng(seed)), 0.97)
    assert loud[16:20].mean() > loud.max() - 60
    assert loud[16:20].mean() < loud[:2].max() - 20


def test_voice_pauses_between_phrases() -> None:
    wave = voice(6.0, np.random.default_rng(3))
    power = np.square(wave).reshape(-1, 4800).mean(axis=1)
    quiet = np.mean(power < 1e-5 * power.max())
    assert 0.02 < quiet < 0.5


@pytest.mark.parametrize("pitch_hz", [90.0, 150.0, 230.0])
def test_voice_keeps_to_the_pitch_asked_for(pitch_hz: float) -> None:
    wave = voice(3.0, np.random.default_rng(5), pitch_hz=pitch_hz)
    assert 0.85 < pitch_of(wave) / pitch_hz < 1.15


def test_clips_of_one_speaker_share_a_voice() -> None:
    low, high = sorted(
        (speaker(np.random.default_rng(seed)) for seed in range(8)), key=lambda who: who.pitch_hz
    )[::7]
    clips = [
        voice(3.0, np.random.default_rng(seed), who=who) for who in (low, high) for seed in (1, 2)
    ]
    pitches = [pitch_of(clip) for clip in clips]
    assert not np.array_equal(clips[0], clips[1])
    assert max(pitches[:2]) / min(pitches[:2]) < 1.15
    assert max(pitches[2:]) / min(pitches[2:]) < 1.15
    assert min(pitches[2:]) / max(pitches[:2]) > 1.3
