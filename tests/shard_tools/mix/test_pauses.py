"""Pauses: where speech is, and what may be changed where it is not."""

import numpy as np
import pytest

from shard_tools.mix.pauses import BEGINS_DB, FRAME, insert_gap, lower_pauses, speech_activity
from timbre import audio
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice

BACKGROUND_DB = -70.0


def talk(seed: int, pause_seconds: float = 0.8) -> tuple[Wave, Wave]:
    """Return words with pauses over a faint background, and the words alone."""
    rng = np.random.default_rng(seed)
    silence = np.zeros(round(pause_seconds * 48_000), np.float32)
    words = np.concatenate(
        [part for n in range(3) for part in (silence, voice(0.7, np.random.default_rng(seed + n)))]
        + [silence]
    )
    words = words * np.float32(audio.gain(-25 - audio.active_level_db(words)))
    background = rng.standard_normal(len(words)).astype(np.float32) * audio.gain(BACKGROUND_DB)
    return (words + background).astype(np.float32), words


@pytest.mark.parametrize("seed", range(6))
def test_speech_is_left_bit_for_bit(seed: int) -> None:
    speech, words = talk(seed)
    output = lower_pauses(speech, -30.0)
    count = len(words) // FRAME
    power = np.square(words[: count * FRAME].reshape(count, FRAME), dtype=np.float64).mean(axis=1)
    loud = np.percentile(power, 98) * 10 ** ((BEGINS_DB + 3) / 10)
    for frame in np.flatnonzero(power > loud):
        place = slice(frame * FRAME, (frame + 1) * FRAME)
        np.testing.assert_array_equal(output[place], speech[place])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("gain_db", [-12.0, -30.0])
def test_long_pauses_are_lowered_by_the_gain(seed: int, gain_db: float) -> None:
    speech, _ = talk(seed)
    output = lower_pauses(speech, gain_db)
    middle = slice(0, 24_000)  # of the first pause, well before the first word
    change = audio.level_db(output[middle]) - audio.level_db(speech[middle])
    assert abs(change - gain_db) < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_activity_changes_smoothly_and_lies_between_0_and_1(seed: int) -> None:
    activity = speech_activity(talk(seed)[0])
    assert activity.min() == 0.0 and activity.max() == 1.0
    assert np.abs(np.diff(activity)).max() < 0.01


@pytest.mark.parametrize("level_db", [-60.0, -20.0, 0.0])
def test_activity_does_not_depend_on_the_level(level_db: float) -> None:
    speech, _ = talk(3)
    other = speech * np.float32(audio.gain(level_db))
    assert np.mean(speech_activity(other) != speech_activity(speech)) < 0.01


def test_a_loud_background_counts_as_speech_rather_than_being_pumped() -> None:
    _, words = talk(1)
    noisy = words + np.random.default_rng(0).standard_normal(len(words)).astype(
        np.float32
    ) * audio.gain(-45.0)
    np.testing.assert_array_equal(lower_pauses(noisy, -30.0), noisy)


@pytest.mark.parametrize("samples", [0, 1, 479, 480, 1441])
def test_any_length_and_silence_go_through(samples: int) -> None:
    assert lower_pauses(np.zeros(samples, np.float32), -30.0).shape == (samples,)
    assert speech_activity(np.ones(samples, np.float32)).min(initial=1.0) == 1.0


@pytest.mark.parametrize(("start", "gap"), [(0, 100), (400, 300), (990, 500), (1000, 10)])
def test_a_gap_moves_what_is_behind_it_and_keeps_the_length(start: int, gap: int) -> None:
    wave = np.arange(1, 1001, dtype=np.float32)
    result = insert_gap(wave, start, gap)
    silent = min(gap, 1000 - start)
    assert len(result) == 1000
    np.testing.assert_array_equal(result[:start], wave[:start])
    assert not result[start : start + silent].any()
    np.testing.assert_array_equal(result[start + silent :], wave[start : 1000 - silent])
