"""Mixing."""

import numpy as np
import pytest

from shard_tools.mix import mixture as mix
from timbre import audio
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice


def white(samples: int, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> Wave:
    return voice(3.0, np.random.default_rng(1))


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5, 40.0])
@pytest.mark.parametrize("lead_in", [0, 48000])
def test_mix_reaches_the_requested_snr_and_level(speech: Wave, snr_db: float, lead_in: int) -> None:
    mixture = mix.mix(speech, speech, white(len(speech)), mix.Request(snr_db, -25.0, lead_in))
    assert mixture is not None
    clean, noisy = mixture.clean[lead_in:], mixture.noisy[lead_in:]
    snr_reached_db = 10 * np.log10(
        np.sum(clean.astype(float) ** 2) / np.sum((noisy - clean).astype(float) ** 2)
    )
    assert abs(snr_reached_db - snr_db) < 0.02
    assert abs(mixture.snr_db - snr_db) < 0.02
    assert abs(audio.active_level_db(clean) + 25.0) < 0.02
    assert abs(audio.level_db(clean) - audio.level_db(speech[lead_in:]) - mixture.gain_db) < 0.01


def test_one_gain_for_both_sides_keeps_peaks_within_full_scale(speech: Wave) -> None:
    mixture = mix.mix(speech, speech, white(len(speech)), mix.Request(-10.0, -6.0))
    assert mixture is not None
    assert abs(np.abs(mixture.noisy).max() - mix.PEAK) < 1e-4
    np.testing.assert_allclose(mixture.clean, speech * audio.gain(mixture.gain_db), atol=1e-6)


@pytest.mark.parametrize("silent", ["speech", "noise"])
def test_silence_cannot_be_mixed(speech: Wave, silent: str) -> None:
    nothing = np.zeros_like(speech)
    one, other = (nothing, white(len(speech))) if silent == "speech" else (speech, nothing)
    assert mix.mix(one, one, other, mix.Request(10.0, -25.0)) is None


@pytest.mark.parametrize("start", [0, 300, 9000])
def test_a_stretch_inside_a_recording_is_the_recording(start: int) -> None:
    noise = white(10000)
    np.testing.assert_array_equal(mix.loop(noise, start, 1000), noise[start : start + 1000])


@pytest.mark.parametrize("start", [0, 300, 5000, 9500, 9999])
def test_noise_goes_round_at_its_end_again_and_again(start: int) -> None:
    noise, period = white(10000), 10000 - mix.FADE
    wave = mix.loop(noise, start, 35000)
    assert wave.shape == (35000,) and wave.dtype == np.float32
    first = noise[start:period]
    np.testing.assert_array_equal(wave[: len(first)], first)
    crossing = (10000 - start) % period  # the sample that lies one cross-over into the recording
    for place in (crossing, crossing + period, crossing + 2 * period):
        expected = noise[mix.FADE : period][: 35000 - place]
        np.testing.assert_array_equal(wave[place : place + len(expected)], expected)


@pytest.mark.parametrize("samples", [700, 5000, 10000])
@pytest.mark.parametrize("start", [0, 400, 650])
def test_noise_does_not_click_where_it_goes_round(samples: int, start: int) -> None:
    # Half a period more than whole ones: a hard join would jump by twice the size.
    tone = np.cos(2 * np.pi * np.arange(samples) * 1.5 / samples).astype(np.float32)
    wave = mix.loop(tone, start, 4 * samples)
    assert np.abs(np.diff(wave)).max() < 20 / samples


def test_noise_keeps_its_level_where_it_goes_round() -> None:
    noise = white(10000)
    turns = mix.loop(noise, 5000, 400000)[5000 - mix.FADE :]
    crossing = np.concatenate([turns[n * 9040 :][: mix.FADE] for n in range(40)])
    assert abs(audio.level_db(crossing) - audio.level_db(noise)) < 0.5


@pytest.mark.parametrize("length", [1, 2, 3, 5, 50])
def test_the_shortest_recordings_go_round_too(length: int) -> None:
    noise = np.ones(length, np.float32)
    wave = mix.loop(noise, length - 1, 500)
    assert wave.shape == (500,) and wave.min() > 0.99 and wave.max() < 1.42


@pytest.mark.parametrize("samples", [1000, 20000])
def test_a_loop_leaves_the_recording_alone(samples: int) -> None:
    noise = white(5000)
    before = noise.copy()
    wave = mix.loop(noise, 100, samples)
    wave *= 2
    np.testing.assert_array_equal(noise, before)


def test_layers_are_heard_at_their_gains() -> None:
    gains = (0.0, -6.0, 3.0)
    layers = [
        mix.Layer(white(96000, n) * np.float32(0.1**n), 0, gain_db)
        for n, gain_db in enumerate(gains)
    ]
    for one in layers:
        alone = audio.level_db(mix.layer([one], 96000))
        assert abs(alone - mix.LAYER_LEVEL_DB - one.gain_db) < 0.01
    powers = sum(10 ** ((mix.LAYER_LEVEL_DB + gain_db) / 10) for gain_db in gains)
    assert abs(audio.level_db(mix.layer(layers, 96000)) - 10 * np.log10(powers)) < 0.1


@pytest.mark.parametrize("steps", [0, 1])
def test_a_layer_silent_in_its_stretch_is_left_out(steps: int) -> None:
    silence = np.float32(steps / 32768) * np.sign(white(20000, 2))
    audible = mix.Layer(white(20000, 1), 0, 0.0)
    np.testing.assert_array_equal(
        mix.layer([audible, mix.Layer(silence, 0, 20.0)], 20000), mix.layer([audible], 20000)
    )
    both = mix.layer([audible, mix.Layer(white(20000), 0, 0.0)], 20000)
    assert abs(audio.level_db(both) - mix.LAYER_LEVEL_DB - 10 * np.log10(2)) < 0.1


@pytest.mark.parametrize("samples", [1, 480, 100001])
def test_layers_have_the_asked_length(samples: int) -> None:
    layers = [mix.Layer(white(samples, seed), 7, 0.0) for seed in range(2)]
    sum_of_layers = mix.layer(layers, samples)
    assert sum_of_layers.shape == (samples,) and sum_of_layers.dtype == np.float32
    assert not mix.layer([mix.Layer(np.zeros(samples, np.float32), 0, 0.0)], samples).any()


@pytest.mark.parametrize("start", range(0, 100_000, 7_919))
@pytest.mark.parametrize("lead_in", [0, 3_000])
def test_a_noise_that_is_silent_where_it_was_to_start_starts_further_on(
    start: int, lead_in: int
) -> None:
    noise = np.zeros(100_000, np.float32)
    noise[40_000:41_000] = white(1_000)

    def hear(place: int) -> Wave:
        return mix.loop(noise, place, lead_in + 4_000)

    new_start, sound = mix.start_that_sounds(hear, len(noise), start, lead_in)
    assert 0 <= new_start < len(noise)
    np.testing.assert_array_equal(sound, hear(new_start))
    assert audio.level_db(sound[lead_in:]) > mix.QUIETEST_DB
    body = (start + lead_in) % len(noise)
    if 37_000 <= body < 40_500:
        assert new_start == start
    assert (new_start - start) % 4_000 == 0 or new_start < start
    assert mix.start_that_sounds(hear, len(noise), new_start, lead_in)[0] == new_start


def test_a_noise_without_any_sound_keeps_its_start() -> None:
    nothing = np.zeros(10_000, np.float32)
    new_start, sound = mix.start_that_sounds(
        lambda place: mix.loop(nothing, place, 3_000), 10_000, 700, 500
    )
    assert new_start == 700 and sound.shape == (3_000,) and not sound.any()
