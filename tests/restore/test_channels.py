"""Which channels are equal, which are alike, and what becomes of others."""

import numpy as np
import pytest

from tests.help.stereo import PLACES, pan
from timbre.audio import Wave, resample, split
from timbre.audio.synthetic.voice import voice
from timbre.restore.channels import ALIKE, Channels, Likeness


def noise(level: float, shape: tuple[int, ...], seed: int = 0) -> Wave:
    return level * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def made_up(seed: int, seconds: float = 2.0) -> Wave:
    return voice(seconds, np.random.default_rng(seed))


def likeness(wave: Wave, sample_rate: int = 48_000, cut: int = 7_001) -> float:
    result = Likeness(sample_rate)
    for block in split(wave, cut):
        result.add(block)
    return result.value()


def look(wave: Wave, channels: int | None = None, link: bool | None = None) -> Channels:
    result = Channels(48_000, channels, link)
    blocks = list(result.watch(split(wave, 9_999)))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), wave)
    return result


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("levels", [(0.004, 0.004), (0.001, 0.01)], ids=["equal", "unequal"])
def test_a_voice_in_both_channels_is_alike_wherever_it_is_and_in_unequal_noise(
    place: str, levels: tuple[float, float]
) -> None:
    signal = pan(made_up(1), place)
    assert likeness(signal + np.array(levels)[:, None] * noise(1, signal.shape)) > ALIKE + 0.1


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_it_is_the_same_at_other_rates_and_however_it_is_cut(rate: int) -> None:
    signal = pan(made_up(1), "left by 12 dB") + noise(0.004, (2, 96_000))
    at_rate = resample(signal, 48_000, rate)
    assert likeness(at_rate, rate) == pytest.approx(likeness(signal), abs=0.1)
    assert likeness(at_rate, rate, cut=100) == pytest.approx(likeness(at_rate, rate, cut=99_999))


@pytest.mark.parametrize("seed", range(4))
def test_a_voice_a_channel_is_not_alike_and_neither_is_noise_nor_silence(seed: int) -> None:
    first, second = made_up(seed), made_up(seed + 10)
    assert likeness(np.stack([first, second])) < ALIKE - 0.3
    assert likeness(noise(0.1, (2, 96_000), seed)) < ALIKE - 0.2
    beside_noise = np.stack([first, noise(0.01, first.shape, seed)])
    assert likeness(beside_noise) < ALIKE - 0.3
    assert likeness(np.stack([first, np.zeros_like(first)])) == 0
    assert likeness(np.stack([first, second])[:, :4_000]) == 0


def test_equal_channels_are_one_row_and_pairs_are_found_among_several_signals() -> None:
    one, other, third = made_up(1), made_up(2), made_up(3)
    batch = np.concatenate(
        [np.stack([one, one]), np.stack([one, other]), np.stack([third, third / 2])]
    )
    result = look(batch, channels=2)
    assert result.rows == [0, 2, 3, 4, 5]
    assert result.spread == [0, 0, 1, 2, 3, 4]
    assert result.pairs == [3]
    assert look(batch, channels=2, link=True).pairs == [1, 3]
    assert look(batch, channels=2, link=False).pairs == []


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_only_two_channels_are_ever_linked(channels: int) -> None:
    one = made_up(1)
    wave = np.stack([one / (1 + index) for index in range(channels)])
    result = look(wave, link=True)
    assert result.pairs == [] and result.rows == result.spread == list(range(channels))
    assert look(np.stack([one] * channels)).rows == [0]


def test_channels_that_are_equal_but_for_one_sample_are_two() -> None:
    wave = np.stack([made_up(1)] * 2)
    wave[1, 50_000] += 1e-3
    result = look(wave)
    assert result.rows == [0, 1] and result.pairs == [0]
