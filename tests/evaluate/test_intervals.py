"""Intervals over speakers: as wide as theory has them, and as sure as they say."""

import numpy as np
import pytest
from scipy import stats

from timbre.evaluate import intervals
from timbre.evaluate.intervals import CONFIDENCE, Estimate, estimate, verdict


def alone(values: object) -> Estimate:
    """The estimate of pairs that each have a speaker of their own."""
    column = np.asarray(values, dtype=np.float64)
    return estimate(column, [f"{n:04d}" for n in range(len(column))])


def values_by_speaker(speakers: int, each: int, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Values that speakers differ in, and pairs of one speaker a little."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (speakers, 1)) + rng.normal(0, 0.3, (speakers, each))
    return values.ravel(), [f"s{n:03d}" for n in range(speakers) for _ in range(each)]


@pytest.mark.parametrize("speakers", [2, 3, 5, 8, 40, 300])
def test_an_interval_is_as_wide_as_that_of_the_t_distribution(speakers: int) -> None:
    """Equal numbers of pairs: the mean over pairs is that over speakers, which theory knows."""
    values, names = values_by_speaker(speakers, each=5)
    interval = estimate(values, names)
    means = values.reshape(speakers, 5).mean(axis=1)
    low, high = stats.t.interval(CONFIDENCE, speakers - 1, means.mean(), stats.sem(means))
    assert interval.mean == pytest.approx(means.mean())
    assert interval.low is not None and interval.high is not None
    exact = speakers < intervals.FEWEST_SPEAKERS_FOR_RESAMPLES
    assert interval.high - interval.low == pytest.approx(high - low, rel=1e-6 if exact else 0.12)


def test_plain_percentiles_of_the_draws_are_those_of_scipy() -> None:
    values = np.random.default_rng(4).exponential(1.0, 60)
    draws = intervals._draws(60) @ values / 60
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1)
    interval = theirs.confidence_interval
    width = interval.high - interval.low
    ours = np.quantile(draws, [0.025, 0.975])
    np.testing.assert_allclose(ours, [interval.low, interval.high], atol=0.06 * width)
    assert draws.std() == pytest.approx(values.std() / 60**0.5, rel=0.05)


def test_more_pairs_of_the_same_speakers_are_little_more_evidence() -> None:
    few, many = (estimate(*values_by_speaker(12, each)) for each in (2, 50))
    assert few.low is not None and few.high is not None
    assert many.low is not None and many.high is not None
    assert many.high - many.low > 0.6 * (few.high - few.low)
    # As if pairs were independent it would be a fifth.
    values, _ = values_by_speaker(12, 50)
    naive = alone(values)
    assert naive.low is not None and naive.high is not None
    assert naive.high - naive.low < 0.4 * (many.high - many.low)


@pytest.mark.parametrize("speakers", [4, 6, 12])
def test_an_interval_holds_the_true_mean_about_95_times_in_100(speakers: int) -> None:
    hits = 0
    for seed in range(200):
        interval = estimate(*values_by_speaker(speakers, 4, seed))
        assert interval.low is not None and interval.high is not None
        hits += interval.low <= 0 <= interval.high
    assert 176 <= hits <= 199


def test_speakers_with_more_pairs_weigh_more() -> None:
    names = [*"abcdefg", *"hhh"]
    interval = estimate(np.array([0.0] * 7 + [4.0] * 3), names)
    assert interval.mean == pytest.approx(1.2) and interval.speakers == 8 and interval.pairs == 10
    # No draw lies outside of what the speakers span.
    assert interval.low == 0.0 and interval.high is not None and interval.high <= 4.0


def test_one_speaker_has_a_mean_and_no_interval() -> None:
    interval = estimate(np.array([1.0, 2.0]), ["a", "a"])
    assert interval == Estimate(1.5, None, None, 2, 1, 0)
    assert str(interval) == "1.500" and verdict(interval, "higher") == "undecided"


def test_pairs_without_a_figure_are_left_out_and_counted() -> None:
    assert alone([1.0, np.nan, 3.0]) == alone([1.0, 3.0])._replace(left_out=1)
    assert alone([np.nan]) == Estimate(None, None, None, 0, 0, 1)
    assert str(alone([np.nan])) == "none"


def test_an_interval_is_the_same_every_time_and_for_any_order_of_pairs() -> None:
    values, names = values_by_speaker(9, 3)
    first = estimate(values, names)
    intervals._draws.cache_clear()
    assert estimate(values, names) == first
    backwards = estimate(values[::-1], names[::-1])
    assert backwards.low == pytest.approx(first.low) and backwards.mean == pytest.approx(first.mean)


@pytest.mark.parametrize(("better", "good"), [("higher", 1.0), ("lower", -1.0)])
def test_a_verdict_takes_the_direction_of_the_figure_into_account(
    better: intervals.Direction, good: float
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 50)
    assert verdict(alone(good + noise), better) == "better"
    assert verdict(alone(-good + noise), better) == "worse"
    assert verdict(alone(noise - noise.mean()), better) == "undecided"


def test_too_few_speakers_give_no_verdict_even_if_they_agree() -> None:
    gains = [1.0, 1.1, 0.9, 1.2, 1.0, 1.05]
    assert verdict(alone(gains), "higher") == "better"
    assert verdict(alone(gains[:4]), "higher") == "better"
    assert verdict(alone(gains[:3]), "higher") == "undecided"
    assert verdict(estimate(np.array(gains), [*"aabbcc"]), "higher") == "undecided"


def test_a_difference_as_small_as_rounding_gives_no_verdict_however_sure_it_is() -> None:
    rounding = 1e-5 + np.random.default_rng(0).normal(0, 1e-7, 50)
    assert verdict(alone(rounding), "lower") == "undecided"
    assert verdict(alone(1000 * rounding), "lower") == "worse"
    assert str(alone(-rounding)) == "0.000 [0.000, 0.000]"
