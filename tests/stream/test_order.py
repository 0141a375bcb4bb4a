"""The sample order: one permutation an epoch, computable at any stretch, corpora by their weights."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from timbre.errors import ConfigError
from timbre.shards.corpus import Corpus
from timbre.stream.order import MIXED_TOGETHER, EpochOrder, Order, SampleOrder

COUNTS = [7, 0, 5, 9, 4, 6]


def whole_order(counts: Sequence[int], seed: int, epoch: int, window: int) -> Order:
    order = EpochOrder(np.array(counts), seed, epoch, window)
    return order.rows(0, order.pairs)


def corpus(counts: Sequence[int], weight: float = 1.0) -> Corpus:
    shards: Any = tuple(SimpleNamespace(pairs=count) for count in counts)
    return Corpus(f"corpus of {len(counts)}", "", shards, weight, "", 1.0)


@pytest.mark.parametrize("window", [1, 2, 4, 100])
def test_an_epoch_is_a_permutation_and_two_epochs_differ(window: int) -> None:
    everything = {(s, i) for s, n in enumerate(COUNTS) for i in range(n)}
    epochs = [whole_order(COUNTS, 0, epoch, window) for epoch in range(2)]
    for rows in epochs:
        assert len(rows) == 31
        assert set(map(tuple, rows)) == everything
    assert not np.array_equal(*epochs)
    assert np.array_equal(epochs[0], whole_order(COUNTS, 0, 0, window))
    assert not np.array_equal(epochs[0], whole_order(COUNTS, 1, 0, window))


def test_pairs_are_shuffled_only_within_their_window_of_shards() -> None:
    rows = whole_order([10] * 6, 0, 0, window=2)
    for first in range(0, 60, 20):
        assert len(set(rows[first : first + 20, 0])) == 2
        assert not np.array_equal(rows[first : first + 10, 1], np.arange(10))


def test_no_two_windows_or_epochs_are_shuffled_alike() -> None:
    windows = [
        tuple(whole_order([50] * 4, 0, epoch, window=1)[first : first + 50, 1])
        for epoch in range(3)
        for first in range(0, 200, 50)
    ]
    assert len(set(windows)) == len(windows)


def test_every_pair_comes_at_every_place_equally_often() -> None:
    places = np.zeros((12, 12))
    for epoch in range(1200):
        shard, pair = whole_order([4, 4, 4], 0, epoch, window=2).T
        places[shard * 4 + pair, np.arange(12)] += 1
    assert np.abs(places - 100).max() < 50  # five standard deviations


@pytest.mark.parametrize("window", [1, 3, 100])
def test_a_stretch_is_that_part_of_the_whole(window: int) -> None:
    whole = whole_order(COUNTS, 3, 1, window)
    for start in range(len(whole) + 1):
        for stop in range(start, len(whole) + 1):
            rows = EpochOrder(np.array(COUNTS), 3, 1, window).rows(start, stop)
            np.testing.assert_array_equal(rows, whole[start:stop])


def test_a_stretch_of_a_mixture_is_that_part_of_the_whole_also_past_the_end() -> None:
    corpora = [corpus([700, 800, 333]), corpus([50], 3.0), corpus([500] * 3, 0.5)]
    order, rng = SampleOrder(corpora, 0, 2), np.random.default_rng(0)
    whole = order.rows(2, 0, order.pairs)
    assert len(whole) > 3 * MIXED_TOGETHER
    for start in [0, MIXED_TOGETHER, order.pairs - 1, *rng.integers(order.pairs, size=40)]:
        stop = start + int(rng.integers(2500))
        expected = whole[np.arange(start, stop) % order.pairs]
        np.testing.assert_array_equal(SampleOrder(corpora, 0, 2).rows(2, start, stop), expected)


def test_corpora_are_served_by_weight_and_each_keeps_its_own_epochs() -> None:
    corpora = [corpus([8, 8]), corpus([4], 3.0)]
    order = SampleOrder(corpora, 0, 2)
    epochs = [order.rows(epoch, 0, 20) for epoch in range(4)]
    assert all((rows[:, 0] == 1).sum() == 15 for rows in epochs)
    small = np.concatenate([rows[rows[:, 0] == 1, 2] for rows in epochs])
    for first in range(0, 60, 4):  # every four in a row are all four pairs of the small one
        assert set(small[first : first + 4]) == {0, 1, 2, 3}
    large = np.concatenate([rows[rows[:, 0] == 0, 1:] for rows in epochs])[:16]
    assert len(set(map(tuple, large))) == 16


def test_weights_hold_in_every_part_of_an_epoch_whatever_the_number_of_corpora() -> None:
    weights = [1.0, 0.001, 5.0, 0.3, 0.003, 2.2]
    corpora = [corpus([1500] * 2, weight) for weight in weights]
    order = SampleOrder(corpora, 0, 2)
    whose = order.rows(0, 0, order.pairs)[:, 0]
    for stop in range(MIXED_TOGETHER, order.pairs, MIXED_TOGETHER):
        share = np.bincount(whose[:stop], minlength=len(weights))
        expected = stop * np.array(weights) / sum(weights)
        assert np.abs(share - expected).max() <= len(weights)
    first = whose[:MIXED_TOGETHER]
    assert (first[1:] != first[:-1]).mean() > 0.3  # mixed, not one after the other


def test_a_corpus_that_would_never_be_served_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"weight 1e-06 of corpus of 1 is too small: .* none of"):
        SampleOrder([corpus([5, 5]), corpus([5], 1e-6)], 0, 2)


def test_ten_million_pairs_take_no_more_than_a_number_a_shard() -> None:
    order = EpochOrder(np.full(10_000, 1000), 0, 0, 8)
    rows = order.rows(9_000_000, 9_000_016)
    assert len(set(map(tuple, rows))) == 16
    assert (
        sum(value.nbytes for value in vars(order).values() if isinstance(value, np.ndarray)) < 1e6
    )
