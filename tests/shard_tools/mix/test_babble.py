"""Babble of catalogue speakers."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from shard_tools.mix.babble import VOICE_LEVEL_DB, Babble, Voice, draw_babbles, make_babble
from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.synthetic.voice import voice

MANY = [f"speaker {number % 30}" for number in range(90)]
SECOND = SAMPLE_RATE


@pytest.fixture(scope="module")
def clips() -> list[Wave]:
    """Five voices of different lengths and levels."""
    voices = [voice(1.0 + 0.3 * n, np.random.default_rng(n)) for n in range(5)]
    return [wave * np.float32(audio.gain(-5.0 * n)) for n, wave in enumerate(voices)]


def speakers_of(babble: Babble, speakers: Sequence[str]) -> frozenset[str]:
    return frozenset(speakers[voice.clip] for voice in babble.voices)


def reader(clips: list[Wave]) -> Callable[[int], Wave]:
    return lambda clip: clips[clip]


def test_voices_of_a_babble_are_different_speakers() -> None:
    for babble in draw_babbles(MANY, 200, (1, 2), SECOND):
        assert 4 <= len(babble.voices) <= 8
        assert len(speakers_of(babble, MANY)) == len(babble.voices)


def test_speakers_and_numbers_of_voices_and_gains_spread() -> None:
    babbles = draw_babbles(MANY, 300, (1,), SECOND)
    counts = Counter(owner for each in babbles for owner in speakers_of(each, MANY))
    mean = counts.total() / 30
    assert len(counts) == 30
    assert 0.6 * mean < min(counts.values()) and max(counts.values()) < 1.5 * mean
    assert {len(each.voices) for each in babbles} == {4, 5, 6, 7, 8}
    assert len({v.clip for each in babbles for v in each.voices}) == 90
    gains = [v.gain_db for each in babbles for v in each.voices]
    assert -5 <= min(gains) < -4.8 and 4.8 < max(gains) <= 5


@pytest.mark.parametrize(("speakers", "voices"), [(3, {3}), (5, {4, 5})])
def test_few_speakers_give_small_babbles(speakers: int, voices: set[int]) -> None:
    owners = [str(number % speakers) for number in range(20)]
    assert {len(each.voices) for each in draw_babbles(owners, 40, (0,), SECOND)} == voices


@pytest.mark.parametrize("owners", [[], ["a"], ["a", "b", "a", "b"]])
def test_fewer_than_three_speakers_give_none(owners: list[str]) -> None:
    assert draw_babbles(owners, 10, (0,), SECOND) == []


def test_a_babble_depends_on_seed_and_number_alone() -> None:
    babbles = draw_babbles(MANY, 20, (1, 2), SECOND)
    assert babbles[:5] == draw_babbles(MANY, 5, (1, 2), SECOND)
    assert [each.voices for each in babbles] != [
        each.voices for each in draw_babbles(MANY, 20, (1, 3), SECOND)
    ]
    assert len({each.voices for each in babbles}) == 20
    assert [each.name for each in babbles[:2]] == ["babble-0000", "babble-0001"]


def test_a_babble_is_the_same_whenever_it_is_made(clips: list[Wave]) -> None:
    (babble,) = draw_babbles(list("abcde"), 1, (4,), 3 * SECOND)
    wave = make_babble(babble, reader(clips))
    assert wave.dtype == np.float32 and wave.shape == (3 * SECOND,)
    np.testing.assert_array_equal(wave, make_babble(babble, reader(clips)))


@pytest.mark.parametrize("samples", [SECOND // 3, 7 * SECOND + 1])
def test_a_babble_has_its_length_whatever_that_of_its_clips(
    clips: list[Wave], samples: int
) -> None:
    voices = tuple(Voice(clip, 0.0) for clip in range(3))
    assert make_babble(Babble("b", voices, samples), reader(clips)).shape == (samples,)


@pytest.mark.parametrize("gain_db", [-5.0, 0.0, 3.0])
def test_each_voice_is_heard_at_its_gain(clips: list[Wave], gain_db: float) -> None:
    for clip in range(5):
        alone = make_babble(Babble("b", (Voice(clip, gain_db),), 20 * SECOND), reader(clips))
        assert abs(audio.active_level_db(alone) - VOICE_LEVEL_DB - gain_db) < 0.5


def test_voices_add_up_in_power(clips: list[Wave]) -> None:
    gains = (-5.0, 0.0, 5.0, 2.0)
    voices = tuple(Voice(clip, gain_db) for clip, gain_db in enumerate(gains))
    level_db = audio.level_db(make_babble(Babble("b", voices, 20 * SECOND), reader(clips)))
    powers = 0.0
    for one in voices:
        alone = make_babble(Babble("b", (one,), 20 * SECOND), reader(clips))
        powers += 10 ** (audio.level_db(alone) / 10)
    assert abs(level_db - 10 * np.log10(powers)) < 0.5


def test_babbles_of_the_same_voices_differ(clips: list[Wave]) -> None:
    voices = (Voice(0, 0.0), Voice(1, 0.0), Voice(2, 0.0))
    one, other = (make_babble(Babble(n, voices, SECOND), reader(clips)) for n in ("a", "b"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


def test_no_voice_clicks_where_it_goes_round() -> None:
    # Half a period more than whole ones: a hard join would jump by twice the size.
    tone = np.cos(2 * np.pi * np.arange(10000) * 10.5 / 10000).astype(np.float32)
    wave = make_babble(Babble("b", (Voice(0, 0.0),), 40000), lambda _: tone)
    assert np.abs(np.diff(wave)).max() < 0.02 * np.abs(wave).max()


@pytest.mark.parametrize("steps", [0, 1])
def test_silent_clips_add_nothing(clips: list[Wave], steps: int) -> None:
    voices = tuple(Voice(clip, 0.0) for clip in range(3))
    silence = np.tile(np.array([steps, -steps], np.float32) / 32768, SECOND // 2)
    babble = Babble("b", voices, SECOND)
    with_silence = make_babble(babble, reader([clips[0], silence, clips[2]]))
    assert np.isfinite(with_silence).all() and audio.level_db(with_silence) > -40
    assert not make_babble(babble, lambda _: silence).any()
