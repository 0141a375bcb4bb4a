"""The deadline guard: something to play in every hop, no step in it, and an honest count."""

from typing import NamedTuple

import numpy as np
import pytest

from timbre.audio import Wave
from timbre.live.guard import DRIFT_HOPS, Guard

HOP, DELAY = 100, 4


class Signal(NamedTuple):
    """An input and what it is restored to, ``(channels, samples)``."""

    dry: Wave
    restored: Wave

    def part(self, side: int, hop: int) -> Wave:
        return self[side][:, hop * HOP : (hop + 1) * HOP]


def share(hops: int) -> Signal:
    """Restored 1 and input 0: what is played is the share of the restored."""
    ones = np.ones((1, hops * HOP), np.float32)
    return Signal(np.zeros_like(ones), ones)


def run(signal: Signal, events: list[str], seed: int = 0) -> tuple[Wave, Guard]:
    """Return what is played: ``i`` puts a hop, ``w`` restores the next one, ``o`` takes one."""
    guard = Guard(len(signal.dry), HOP, DELAY)
    hops_in = hops_restored = 0
    played = []
    for event in events:
        if event == "i":
            guard.put(signal.part(0, hops_in))
            hops_in += 1
        elif event == "w" and hops_restored < hops_in:
            guard.deliver(hops_restored * HOP, signal.part(1, hops_restored))
            hops_restored += 1
        elif event == "o":
            played.append(guard.take())
    return np.concatenate(played, axis=1), guard


def test_a_signal_in_time_is_the_restored_one_after_the_delay() -> None:
    rng = np.random.default_rng(0)
    dry, wave = rng.standard_normal((2, 2, 20 * HOP)).astype(np.float32)
    played, guard = run(Signal(dry, wave), ["i", "o", "w"] * 20)
    assert not played[:, : (DELAY - 1) * HOP].any()
    np.testing.assert_array_equal(played[:, DELAY * HOP :], wave[:, HOP : (21 - DELAY) * HOP])
    # The first hop fades in.
    assert guard.counts() == (21 - DELAY, 1, 0, 0, 0)


def late_and_busy(seed: int, hops: int) -> list[str]:
    """A worker that stands still for some hops and then catches up."""
    rng = np.random.default_rng(seed)
    events, waiting = [], 0
    for _ in range(hops):
        events += ["i", "o"]
        waiting += 1
        done = waiting if rng.random() > 0.4 else int(rng.integers(0, 2))
        events += ["w"] * done
        waiting -= min(done, waiting)
    return events


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_late_there_is_no_step_and_no_hop_from_elsewhere(seed: int) -> None:
    hops = 200
    events = late_and_busy(seed, hops)
    played, guard = run(share(hops), events)
    assert played.min() >= 0 and played.max() <= 1
    assert np.abs(np.diff(played[0])).max() <= 1 / HOP + 1e-6
    whole = played[0, (DELAY - 1) * HOP :].reshape(-1, HOP)
    counts = guard.counts()
    assert counts.hops == len(whole) and not counts.jumps and not counts.stops
    assert counts.late == np.count_nonzero((whole < 1).any(axis=1)) > 4
    # A fade down begins at 1 and ends at 0, within a hop.
    assert counts.fades == np.count_nonzero((np.diff(whole, axis=1) < 0).any(axis=1)) > 1
    assert np.isin(whole[:, -1], (0, 1)).all()
    # And both sides lie at the same place in time.
    places = np.arange(hops * HOP, dtype=np.float32)[None]
    played, _ = run(Signal(places, places), events)
    np.testing.assert_array_equal(
        played[0, DELAY * HOP :], places[0, HOP : (hops + 1 - DELAY) * HOP]
    )


def test_a_hop_that_comes_after_its_time_is_never_played_nor_kept() -> None:
    played, guard = run(share(40), [*["i", "o"] * 20, *["w"] * 20, *["i", "o"] * 20])
    # Hops 17 to 19 came in time, but nothing follows.
    levels = played[0].reshape(-1, HOP)[:, -1]
    np.testing.assert_array_equal(np.flatnonzero(levels), [20, 21])
    assert guard.counts().fades == 1 and not guard._ready  # nothing piles up


def test_pieces_of_any_size_are_hops_and_a_gap_is_filled_with_the_input() -> None:
    rng = np.random.default_rng(0)
    signal, first, guard = share(30), 0, Guard(1, HOP, 20)
    while first < 6 * HOP:
        piece = signal.restored[:, first : min(first + int(rng.integers(0, 170)), 6 * HOP)]
        guard.deliver(first, piece)
        first += piece.shape[1]
    for first in range(9 * HOP, 14 * HOP, 50):
        guard.deliver(first, signal.restored[:, first : first + 50])
    for hop in range(30):
        guard.put(signal.part(0, hop))
    guard._number = 0  # as if it had not waited
    guard.delay_hops = 30
    played = np.concatenate([guard.take() for _ in range(15)], axis=1)
    levels = played[0].reshape(-1, HOP)[:, -1]
    np.testing.assert_array_equal(levels, [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("more", ["i", "o"])
def test_clocks_that_differ_cost_a_jump_now_and_then_and_no_step(more: str) -> None:
    # One device is faster by a hop in 300.
    events = (["i", "w", "o"] * 300 + [more, "w"]) * 12
    played, guard = run(share(5_000), events)
    assert np.abs(np.diff(played[0])).max() <= 1 / HOP + 1e-6
    counts = guard.counts()
    assert 8 <= counts.jumps <= 14 and counts.stops == 0
    assert counts.late <= 5 * counts.jumps + 5
    # The place changes by hops, and by no more than there are too many.
    places = np.arange(5_000 * HOP, dtype=np.float32)[None]
    played, _ = run(Signal(places, places), events)
    ends = played[0].reshape(-1, HOP)[DELAY:, -1]
    steps = np.diff(ends) / HOP
    assert set(np.unique(steps)) <= {0.0, 1.0, 2.0, 3.0}
    assert np.count_nonzero(steps != 1) == counts.jumps


@pytest.mark.parametrize("stands_still", ["output", "input"])
def test_a_device_that_stands_still_is_caught_up_with_and_no_step(stands_still: str) -> None:
    usual = ["i", "w", "o"]
    pause = ["i", "w"] * 100 if stands_still == "output" else ["o"] * 100
    played, guard = run(share(600), [*usual * 50, *pause, *usual * 50])
    assert np.abs(np.diff(played[0])).max() <= 1 / HOP + 1e-6
    counts = guard.counts()
    assert (counts.jumps, counts.stops) == ((1, 0) if stands_still == "output" else (0, 1))
    # Afterwards there are as many hops in hand as before, and all is restored.
    assert guard._hops_in - guard._number == DELAY - 1
    assert played[0, -20 * HOP :].min() == 1
    assert len(guard._dry) < 2 * DELAY and len(guard._ready) < 2 * DELAY


def test_nothing_is_played_before_there_is_input_and_nothing_piles_up_without_an_output() -> None:
    guard = Guard(2, HOP, DELAY)
    for _ in range(2 * DRIFT_HOPS):
        assert not guard.take().any()
    assert guard.counts().hops == 0
