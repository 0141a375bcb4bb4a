"""The thread that restores: hops in their places, whatever the rate, and few that wait."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests.help.denoise_inputs import noisy_voice
from timbre.audio import HOP, Wave, split
from timbre.denoise import DeepFilterNet3
from timbre.live.guard import Guard
from timbre.live.worker import MOST_WAITING, Late, Worker, lag_in_hops
from timbre.restore.live import LiveRestorer
from timbre.restore.live.restorer import restore_blocks


@pytest.fixture(scope="module")
def denoiser() -> DeepFilterNet3:
    return DeepFilterNet3.load()


def hops_of(wave: Wave, hop: int) -> list[Wave]:
    return [part for part in split(wave, hop) if part.shape[1] == hop]


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_the_lag_is_the_least_after_which_every_hop_is_ready(
    denoiser: DeepFilterNet3, rate: int
) -> None:
    hop, hops = rate // 100, 25
    wave = noisy_voice(hops * hop).numpy()[None]
    restorer = LiveRestorer(None, denoiser)
    lag = lag_in_hops(restorer.latency_samples, rate, 1, hop)
    samples_out, lags, hops_in = 0, [], 0
    blocks = iter(hops_of(wave, hop))

    def count() -> Iterator[Wave]:
        nonlocal hops_in
        for block in blocks:
            hops_in += 1
            yield block
            lags.append(hops_in - samples_out // hop)

    for block in restore_blocks(restorer, count(), rate):
        samples_out += block.shape[1]
        if hops_in == hops:
            break
    assert lag == max(lags)


def test_a_restorer_that_only_delays_is_as_late_as_another(denoiser: DeepFilterNet3) -> None:
    restorer = LiveRestorer(None, denoiser)
    late = Late(1, restorer.latency_samples)
    for part in split(noisy_voice(7_000).numpy()[None], 333):
        assert restorer.push(part).shape == late.push(part).shape
    assert restorer.flush().shape == late.flush().shape
    assert Late(1, 0).push(np.ones((1, 7), np.float32)).shape == (1, 7)


def test_the_worker_delivers_every_hop_to_its_place(denoiser: DeepFilterNet3) -> None:
    wave = noisy_voice(30 * HOP).numpy()[None]
    guard = Guard(1, HOP, 20)
    worker = Worker(LiveRestorer(None, denoiser), 48_000, guard)
    hops = hops_of(wave, HOP)
    for hop in hops:
        guard.put(hop)
        worker.put(hop)
    worker.start()
    worker.end()
    expected = LiveRestorer(None, denoiser)
    whole = np.concatenate([expected.push(wave), expected.flush()], axis=1)
    played = np.concatenate([guard.take() for _ in range(18)], axis=1)
    # 30 hops were in before the first was taken, so it begins with the tenth.
    np.testing.assert_allclose(played[:, HOP:], whole[:, 11 * HOP : 28 * HOP], atol=1e-6)
    assert worker.error is None and 0 < worker.milliseconds(0.5) <= worker.milliseconds(0.99)


def test_of_too_many_that_wait_the_oldest_stay_the_input_and_the_others_keep_their_places() -> None:
    count = 3 * MOST_WAITING
    places = np.arange(count * HOP, dtype=np.float32)[None]
    guard = Guard(1, HOP, count)
    worker = Worker(LiveRestorer(None, None), 48_000, guard)
    for hop in hops_of(places, HOP):
        guard.put(0 * hop)
        worker.put(hop + 1)
    worker.start()
    worker.end()
    played = np.concatenate([guard.take() for _ in range(count - 1)], axis=1)
    restored = (played.reshape(-1, HOP) > 0).all(axis=1)
    assert MOST_WAITING - 2 <= np.count_nonzero(restored) <= MOST_WAITING
    first = (int(np.flatnonzero(restored)[0]) + 1) * HOP  # the hop before fades in
    np.testing.assert_array_equal(
        played[:, first:-HOP], places[:, first : played.shape[1] - HOP] + 1
    )


def test_what_ends_the_thread_is_kept_for_another() -> None:
    worker = Worker(LiveRestorer(None, None), 48_000, Guard(1, HOP, 2))
    worker.put(np.full((1, HOP), np.nan, np.float32))
    worker.start()
    worker.end()
    assert "expected finite" in str(worker.error)
