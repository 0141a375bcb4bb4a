"""The bandwidth of a recording: up to which frequency it has speech."""

import numpy as np
import pytest
from numpy.typing import NDArray

from shard_tools.scan.bandwidth import bandwidth_hz
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice

Wave = NDArray[np.float32]
RATE = 48_000
SEEDS = range(4)


def apply_gains(wave: Wave, gains: NDArray[np.float64]) -> Wave:
    result: Wave = np.fft.irfft(np.fft.rfft(wave) * gains, len(wave)).astype(np.float32)
    return result


def low_pass(wave: Wave, cut_hz: float) -> Wave:
    return apply_gains(wave, np.where(np.fft.rfftfreq(len(wave), 1 / RATE) < cut_hz, 1.0, 0.0))


def as_int16(wave: Wave) -> Wave:
    """As a 16-bit file gives it back."""
    steps: Wave = (np.rint(wave * 32768) / 32768).astype(np.float32)
    return steps


@pytest.fixture(scope="module")
def clips() -> list[Wave]:
    return [voice(3.0, np.random.default_rng(seed)) for seed in SEEDS]


@pytest.mark.parametrize("seed", SEEDS)
def test_full_band_speech_has_the_full_band(clips: list[Wave], seed: int) -> None:
    assert bandwidth_hz(as_int16(clips[seed])) == 24000


@pytest.mark.parametrize("cut_hz", [3400.0, 8000.0, 11025.0, 15200.0, 19000.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_sharp_cut_is_found_and_never_overshot(
    clips: list[Wave], seed: int, cut_hz: float
) -> None:
    edge_hz = bandwidth_hz(as_int16(low_pass(clips[seed], cut_hz)))
    assert cut_hz - 500 < edge_hz < cut_hz + 100


@pytest.mark.parametrize("seed", SEEDS)
def test_hiss_above_the_cut_is_no_content(clips: list[Wave], seed: int) -> None:
    hiss = 10 ** (-70 / 20) * np.random.default_rng(seed).standard_normal(len(clips[seed]))
    edge_hz = bandwidth_hz(as_int16((low_pass(clips[seed], 8000) + hiss).astype(np.float32)))
    assert 7000 < edge_hz < 8100


def test_speech_above_a_faint_hiss_keeps_its_band(clips: list[Wave]) -> None:
    hiss = 10 ** (-85 / 20) * np.random.default_rng(0).standard_normal(len(clips[0]))
    assert bandwidth_hz(as_int16((clips[0] + hiss).astype(np.float32))) > 19000


def test_a_cut_that_comes_and_goes_counts(clips: list[Wave]) -> None:
    # A codec that saves bits where it matters: the loudest frames lose their highs, pauses do not.
    wave = clips[1].copy()
    dull = low_pass(wave, 12000)
    loud = np.repeat(np.square(wave).reshape(-1, 2400).mean(axis=1) > 1e-7, 2400)
    assert 11000 < bandwidth_hz(as_int16(np.where(loud, dull, wave))) < 12500


def test_a_notch_does_not_end_the_band(clips: list[Wave]) -> None:
    hz = np.fft.rfftfreq(len(clips[2]), 1 / RATE)
    with_notch = apply_gains(clips[2], np.where((hz > 7000) & (hz < 7400), 0.0, 1.0))
    assert bandwidth_hz(as_int16(with_notch)) == 24000


def test_a_gentle_slope_is_no_cut_but_sharper_ones_end_earlier(clips: list[Wave]) -> None:
    hz = np.fft.rfftfreq(len(clips[3]), 1 / RATE)
    edges_hz = [
        bandwidth_hz(as_int16(apply_gains(clips[3], 1 / np.sqrt(1 + (hz / 6000) ** (2 * order)))))
        for order in (1, 8, 30)
    ]
    assert edges_hz[0] == 24000
    assert 6000 < edges_hz[2] < edges_hz[1] < edges_hz[0]


def test_the_level_of_a_clip_does_not_change_its_bandwidth(clips: list[Wave]) -> None:
    dull = low_pass(clips[0], 8000)
    assert bandwidth_hz(as_int16(dull)) == bandwidth_hz(as_int16(0.2 * dull))


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0])
def test_a_short_piece_claims_no_more_than_the_clip(clips: list[Wave], seconds: float) -> None:
    # Without pauses to compare with, a steady vowel may pass for a floor: low, never high.
    dull = as_int16(low_pass(clips[0], 8000))
    length = round(seconds * RATE)
    pieces = [dull[start : start + length] for start in range(0, len(dull) - length, length)]
    edges_hz = [bandwidth_hz(piece) for piece in pieces]
    assert max(edges_hz) < 8100
    assert seconds < 1 or max(edges_hz) > 7000


def test_silence_and_scraps_have_no_bandwidth(clips: list[Wave]) -> None:
    assert bandwidth_hz(np.zeros(RATE, dtype=np.float32)) == 0
    assert bandwidth_hz(1e-5 * clips[0]) == 0
    assert bandwidth_hz(clips[0][:2047]) == 0
    assert bandwidth_hz(clips[0][:0]) == 0


def test_stationary_noise_has_nothing_that_speaks() -> None:
    assert bandwidth_hz(noise("white", 3.0, np.random.default_rng(0))) < 3000
