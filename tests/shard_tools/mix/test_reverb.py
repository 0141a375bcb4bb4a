"""Speech in rooms."""

import numpy as np
import pytest

from shard_tools.mix import reverb
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import fast_length
from timbre.audio.synthetic.room import room_response
from timbre.audio.synthetic.voice import voice


def white(samples: int, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> Wave:
    return voice(3.0, np.random.default_rng(1))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_reverberant_speech_keeps_the_direct_paths_time_level_and_polarity(
    speech: Wave, sign: float
) -> None:
    rir = np.zeros(4800, np.float32)
    rir[700], rir[1900] = 0.25 * sign, 0.1
    reverberant, target = reverb.reverberate(speech, rir, early=0)
    np.testing.assert_array_equal(target, speech)
    echo = np.concatenate([np.zeros(1200, np.float32), speech[:-1200]]) * np.float32(0.4 * sign)
    np.testing.assert_allclose(reverberant, speech + echo, atol=1e-5)


def test_the_target_may_keep_early_reflections_only(speech: Wave) -> None:
    rir = np.zeros(4800, np.float32)
    rir[100], rir[500], rir[3000] = 1.0, 0.5, 0.5
    reverberant, target = reverb.reverberate(speech, rir, early=1000)
    early_part, whole = (
        reverb.reverberate(speech, rir[:1000], early=0),
        reverb.reverberate(speech, rir, early=0),
    )
    np.testing.assert_allclose(target, early_part[0], atol=1e-5)
    np.testing.assert_allclose(reverberant, whole[0], atol=1e-5)


@pytest.mark.parametrize("rt60", [0.2, 0.5])
def test_decay_time_of_a_made_room_is_found(rt60: float) -> None:
    seconds = reverb.decay_seconds(room_response(rt60, np.random.default_rng(0)))
    assert seconds is not None and abs(seconds - rt60) < 0.3 * rt60


def test_a_response_that_breaks_off_has_no_decay_time() -> None:
    assert reverb.decay_seconds(np.ones(SAMPLE_RATE // 100, np.float32)[:1]) is None


@pytest.mark.parametrize(("speech_samples", "rir_samples"), [(1, 1), (7, 400), (4801, 1013)])
@pytest.mark.parametrize("early", [0, 50])
def test_reverberation_is_direct_convolution(
    speech_samples: int, rir_samples: int, early: int
) -> None:
    wave, rir = white(speech_samples), white(rir_samples, 1)
    response, direct = reverb.prepare(rir)
    reverberant, target = reverb.reverberate(wave, rir, early)
    ends = slice(direct, direct + speech_samples)
    expected = np.convolve(wave.astype(float), response.astype(float))[ends]
    early_part = np.convolve(wave.astype(float), response[: direct + max(early, 1)].astype(float))[
        ends
    ]
    assert reverberant.dtype == target.dtype == np.float32
    np.testing.assert_allclose(reverberant, expected, atol=2e-5)
    np.testing.assert_allclose(target, early_part if early else wave, atol=2e-5)


def test_what_comes_before_the_strongest_arrival_stays_on_both_sides(speech: Wave) -> None:
    rir = np.zeros(4800, np.float32)
    rir[100], rir[700] = 0.3, -1.0
    reverberant, target = reverb.reverberate(speech, rir, early=200)
    before = np.concatenate([speech[600:], np.zeros(600, np.float32)])
    np.testing.assert_allclose(reverberant, speech - np.float32(0.3) * before, atol=1e-5)
    np.testing.assert_allclose(target, reverberant, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 7, 97, 1025, 65537, 480019, 1000003])
def test_fast_lengths_are_the_next_with_small_factors(samples: int) -> None:
    def small(number: int) -> bool:
        for factor in (2, 3, 5):
            while number % factor == 0:
                number //= factor
        return number == 1

    assert fast_length(samples) == next(n for n in range(samples, 2**21) if small(n))


def test_decay_times_follow_the_slope_of_an_exponential() -> None:
    for seconds in (0.1, 0.5, 3.0):
        time = np.arange(round(2 * seconds * SAMPLE_RATE)) / SAMPLE_RATE
        envelope = (10 ** (-3 * time / seconds)).astype(np.float32)
        estimate = reverb.decay_seconds(envelope)
        assert estimate is not None and abs(estimate - seconds) < 0.001 * seconds + 1e-4
    assert reverb.decay_seconds(np.zeros(100, np.float32)) is None
