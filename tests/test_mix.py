"""Mixing and rooms."""

import numpy as np
import pytest

from shard_tools import mix, reverb
from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.signals import room_response
from timbre.synthetic_voice import voice


def white(samples: int, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> Wave:
    return voice(3.0, np.random.default_rng(1))


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 40.0])
@pytest.mark.parametrize("lead_in", [0, 48000])
def test_mix_reaches_the_requested_snr_and_level(speech: Wave, snr_db: float, lead_in: int) -> None:
    mixed = mix.mix(speech, speech, white(len(speech)), mix.Request(snr_db, -25.0, lead_in))
    assert mixed is not None
    clean, noisy = mixed.clean[lead_in:], mixed.noisy[lead_in:]
    reached = 10 * np.log10(
        np.sum(clean.astype(float) ** 2) / np.sum((noisy - clean).astype(float) ** 2)
    )
    assert abs(reached - snr_db) < 0.02
    assert abs(mixed.snr_db - snr_db) < 0.02
    assert abs(audio.active_level_db(clean) + 25.0) < 0.02
    assert abs(audio.level_db(clean) - audio.level_db(speech[lead_in:]) - mixed.gain_db) < 0.01


def test_one_gain_for_both_sides_keeps_peaks_within_full_scale(speech: Wave) -> None:
    mixed = mix.mix(speech, speech, white(len(speech)), mix.Request(-10.0, -6.0))
    assert mixed is not None
    assert abs(np.abs(mixed.noisy).max() - mix.PEAK) < 1e-4
    np.testing.assert_allclose(mixed.clean, speech * audio.gain(mixed.gain_db), atol=1e-6)


@pytest.mark.parametrize("silent", ["speech", "noise"])
def test_silence_cannot_be_mixed(speech: Wave, silent: str) -> None:
    nothing = np.zeros_like(speech)
    one, other = (nothing, white(len(speech))) if silent == "speech" else (speech, nothing)
    assert mix.mix(one, one, other, mix.Request(10.0, -25.0)) is None


def test_noise_goes_round_at_its_end() -> None:
    noise = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(mix.loop(noise, 3, 9), [3, 4, 0, 1, 2, 3, 4, 0, 1])


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
    kept, whole = (
        reverb.reverberate(speech, rir[:1000], early=0),
        reverb.reverberate(speech, rir, early=0),
    )
    np.testing.assert_allclose(target, kept[0], atol=1e-5)
    np.testing.assert_allclose(reverberant, whole[0], atol=1e-5)


@pytest.mark.parametrize("rt60", [0.2, 0.5])
def test_decay_time_of_a_made_room_is_found(rt60: float) -> None:
    found = reverb.decay_seconds(room_response(rt60, np.random.default_rng(0)))
    assert found is not None and abs(found - rt60) < 0.3 * rt60


def test_a_response_that_breaks_off_has_no_decay_time() -> None:
    assert reverb.decay_seconds(np.ones(SAMPLE_RATE // 100, np.float32)[:1]) is None
