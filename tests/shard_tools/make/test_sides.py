"""Both sides of a pair before they are mixed: all that its recipe says is heard."""

import numpy as np
import pytest

from shard_tools.make.sides import noise_side, speech_sides
from shard_tools.mix.bank import Bank, fill_bank
from shard_tools.mix.colour import Colour
from shard_tools.mix.made_noise import HISS, MadeNoise, make_noise
from shard_tools.plan.recipes import Recipe
from shard_tools.plan.variety import Change, Gap, Hiss, NoiseDraw, SpeechDraw, Variety
from timbre import audio
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice

LEAD_IN = 24_000
SAMPLES = 3 * 48_000
TALK = voice(3.0, np.random.default_rng(4))
TONE_HZ = 1000.0


def recipe(variety: Variety, noises: tuple[NoiseDraw, ...] = ()) -> Recipe:
    return Recipe(10.0, -25.0, noises, None, variety)


@pytest.fixture(scope="module")
def bank() -> Bank:
    """Two recordings: a rising ramp of loudness in noise, and a tone of 1 kHz."""
    rng = np.random.default_rng(0)
    seconds = np.arange(5 * 48_000) / 48_000
    ramp = (rng.standard_normal(len(seconds)) * (0.05 + seconds)).astype(np.float32)
    tone = np.sin(2 * np.pi * TONE_HZ * seconds).astype(np.float32)
    waves = [ramp, tone]
    return fill_bank(
        ["ramp", "tone"], [len(w) for w in waves], lambda number: [waves[number]], "noise"
    )


def loudest_hz(wave: Wave) -> float:
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    return float(np.argmax(power) * 48_000 / len(wave))


def test_without_variety_both_sides_are_the_recording() -> None:
    voice_side, target = speech_sides(TALK, recipe(Variety()), None, 0, LEAD_IN)
    assert voice_side is TALK and target is TALK


def test_a_low_pass_and_a_gap_are_in_both_sides() -> None:
    speech = SpeechDraw(Gap(0.5, 0.8), Colour(6000.0))
    voice_side, target = speech_sides(TALK, recipe(Variety(speech)), None, 0, LEAD_IN)
    np.testing.assert_array_equal(voice_side, target)
    start = LEAD_IN + (SAMPLES - LEAD_IN) // 2
    assert audio.level_db(target[start + 2_000 : start + 36_000]) < -70
    power = np.abs(np.fft.rfft(target)) ** 2
    assert power[len(power) * 7 // 24 :].sum() < 1e-4 * power.sum()


@pytest.mark.parametrize("quiet_input", [True, False])
def test_pauses_are_lowered_in_the_target_and_in_the_input_only_if_asked(quiet_input: bool) -> None:
    rng = np.random.default_rng(1)
    background = rng.standard_normal(SAMPLES).astype(np.float32) * np.float32(audio.gain(-75))
    words = np.concatenate([TALK[:48_000], np.zeros(48_000, np.float32), TALK[48_000:96_000]])
    speech = SpeechDraw(pause_db=-30.0, quiet_input=quiet_input)
    sides = speech_sides(words + background, recipe(Variety(speech)), None, 0, LEAD_IN)
    pause = slice(60_000, 84_000)
    before = audio.level_db(background[pause])
    voice_change, target_change = (audio.level_db(side[pause]) - before for side in sides)
    assert abs(target_change + 30) < 1
    assert abs(voice_change - (-30 if quiet_input else 0)) < 1


def test_a_room_is_heard_on_both_sides_by_its_parts() -> None:
    room = np.zeros(24_000, np.float32)
    room[[0, 480, 12_000]] = 1.0, 0.5, 0.4
    speech = SpeechDraw(pause_db=-30.0)
    voice_side, target = speech_sides(TALK, recipe(Variety(speech)), room, 2400, LEAD_IN)
    _, dry = speech_sides(TALK, recipe(Variety(speech)), None, 0, LEAD_IN)
    early = dry.copy()
    early[480:] += 0.5 * dry[:-480]
    np.testing.assert_allclose(target, early, atol=1e-5)
    late = TALK.copy()
    late[480:] += 0.5 * TALK[:-480]
    late[12_000:] += 0.4 * TALK[:-12_000]
    np.testing.assert_allclose(voice_side, late, atol=1e-5)


@pytest.mark.parametrize("below_db", [20.0, 45.0])
def test_hiss_lies_so_far_under_the_speech_and_only_in_the_input(below_db: float) -> None:
    variety = Variety(hiss=Hiss(MadeNoise(HISS, 5), below_db))
    voice_side, target = speech_sides(TALK, recipe(variety), None, 0, LEAD_IN)
    np.testing.assert_array_equal(target, TALK)
    level_db = audio.level_db(voice_side - target)
    assert abs(audio.active_level_db(TALK[LEAD_IN:]) - level_db - below_db) < 0.1


@pytest.mark.parametrize("speed", [0.7, 1.0, 1.37])
def test_a_noise_at_another_speed_is_so_much_higher(bank: Bank, speed: float) -> None:
    draw = NoiseDraw(1, 0.1, 0.0, speed=speed)
    noise = noise_side(bank, recipe(Variety(), (draw,)), SAMPLES, LEAD_IN)
    assert noise.wave.shape == (SAMPLES,)
    assert abs(loudest_hz(noise.wave) / TONE_HZ - speed) < 0.01
    assert abs(noise.sources[0].samples / SAMPLES - speed) < 0.01


def test_a_noise_backwards_is_the_same_sound_turned(bank: Bank) -> None:
    ways = [
        noise_side(
            bank, recipe(Variety(), (NoiseDraw(0, 0.2, 0.0, backwards=back),)), SAMPLES, LEAD_IN
        ).wave
        for back in (False, True)
    ]
    np.testing.assert_array_equal(ways[0], ways[1][::-1])


def test_made_noises_are_heard_and_named(bank: Bank) -> None:
    made_noise = MadeNoise("pink", 3)
    noise = noise_side(bank, recipe(Variety(made_noise=(made_noise,))), SAMPLES, LEAD_IN)
    expected = make_noise(made_noise, SAMPLES)
    assert np.corrcoef(noise.wave, expected)[0, 1] > 0.9999
    assert [source.path for source in noise.sources] == [made_noise.name]


@pytest.mark.parametrize("made_noise", [None, MadeNoise("white", 9, 12.0)])
def test_another_noise_takes_over_at_once(bank: Bank, made_noise: MadeNoise | None) -> None:
    after = None if made_noise else NoiseDraw(0, 0.5, 12.0)
    tone = NoiseDraw(1, 0.0, 0.0)
    variety = Variety(change=Change(0.5, after, made_noise))
    noise = noise_side(bank, recipe(variety, (tone,)), SAMPLES, LEAD_IN)
    alone = noise_side(bank, recipe(Variety(), (tone,)), SAMPLES, LEAD_IN)
    place = LEAD_IN + (SAMPLES - LEAD_IN) // 2
    np.testing.assert_array_equal(noise.wave[:place], alone.wave[:place])
    rise = audio.level_db(noise.wave[place:]) - audio.level_db(noise.wave[:place])
    assert 8 < rise < 16
    assert len(noise.sources) == 2


def test_noise_has_a_bandwidth_of_its_own(bank: Bank) -> None:
    variety = Variety(made_noise=(MadeNoise("white", 2),), noise_colour=Colour(8000.0))
    wave = noise_side(bank, recipe(variety), SAMPLES, LEAD_IN).wave
    power = np.abs(np.fft.rfft(wave)) ** 2
    assert power[len(power) * 9 // 24 :].sum() < 1e-3 * power.sum()
