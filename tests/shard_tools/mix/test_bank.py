"""Recordings in shared memory."""

import itertools
import multiprocessing
import pickle
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from shard_tools.mix import bank as banks
from shard_tools.mix import mixture as mix
from shard_tools.mix.bank import Bank, fill_bank
from timbre.audio import Wave
from timbre.errors import ConfigError

LENGTHS = (1, 500, 3_000, 20_000, 100_000)


@pytest.fixture(scope="module")
def bank() -> Bank:
    def read(number: int) -> list[Wave]:
        rng = np.random.default_rng(number)
        return [rng.standard_normal(LENGTHS[number]).astype(np.float32)]

    return fill_bank([f"{number}" for number in range(len(LENGTHS))], LENGTHS, read, "noise")


def test_recordings_keep_their_place_length_and_shape(bank: Bank) -> None:
    for number, length in enumerate(LENGTHS):
        assert bank.length(number) == length
        wave = bank.wave(number)
        expected = np.random.default_rng(number).standard_normal(length).astype(np.float32)
        assert wave.shape == (length,) and wave.dtype == np.float32
        assert np.abs(wave - expected / np.abs(expected).max()).max() < 1e-4


@pytest.mark.parametrize("number", range(len(LENGTHS)))
@pytest.mark.parametrize("samples", [1, 480, 4_000, 30_000, 99_000])
def test_a_stretch_is_that_of_the_whole_recording_going_round(
    bank: Bank, number: int, samples: int
) -> None:
    length, fade = LENGTHS[number], mix.FADE
    starts = {0, 1, 300, fade, length // 2, length - 1, length - fade, length - 2 * fade}
    starts |= {length - samples, length - samples + 1, length - 2 * fade - 1, length}
    for start in starts:
        stretch = bank.stretch(number, start, samples)
        np.testing.assert_array_equal(stretch, mix.loop(bank.wave(number), start, samples))
        assert stretch.dtype == np.float32


@pytest.mark.parametrize("start", [1_000, 10_000_000 - 3_000])
def test_a_stretch_takes_memory_for_itself_not_for_the_recording(start: int) -> None:
    samples = np.zeros(10_000_000, np.int16)
    long = Bank(samples, (0, len(samples)), ("long",))
    tracemalloc.start()
    try:
        long.stretch(0, start, 48_000)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_changing_a_stretch_leaves_the_bank_alone(bank: Bank) -> None:
    before = bank.wave(4)
    stretch = bank.stretch(4, 100, 1_000)
    stretch *= 0
    np.testing.assert_array_equal(bank.wave(4), before)


def mark(data: bytes) -> None:
    pickle.loads(data).samples[-1] = -16384


def test_a_recording_is_decoded_once_into_memory_that_processes_share() -> None:
    counts: Counter[int] = Counter()

    def read(number: int) -> list[Wave]:
        counts[number] += 1
        return [np.full(50_000, 0.5, np.float32)]

    bank = fill_bank(["a", "b"], [50_000, 50_000], read, "rir")
    data = pickle.dumps(bank)  # as a worker gets it
    assert len(data) < 1000
    assert pickle.loads(data).wave(1).min() == 1.0
    worker = multiprocessing.get_context("fork").Process(target=mark, args=(data,))
    worker.start()
    worker.join()
    assert bank.wave(1)[-1] == pytest.approx(-0.5, abs=1e-4)  # one block: what it wrote we read
    assert counts == {0: 1, 1: 1}


@pytest.mark.parametrize("loudest", [0, 1, 4])
def test_a_recording_in_blocks_is_the_recording_in_one(loudest: int) -> None:
    rng = np.random.default_rng(7)
    blocks = [rng.uniform(-0.1, 0.1, size).astype(np.float32) for size in (700, 700, 1, 700, 33)]
    blocks[loudest] *= 5
    whole = np.concatenate(blocks)
    banks = [
        fill_bank(["a"], [len(whole)], lambda _, parts=parts: parts, "noise")
        for parts in (blocks, [whole])
    ]
    np.testing.assert_array_equal(banks[0].samples, banks[1].samples)


def test_an_hour_takes_little_more_than_its_place() -> None:
    """0.69 GB are an hour's float samples; one block of two minutes has 23 MB."""
    samples, block = 3600 * 48_000, np.full(120 * 48_000, 0.25, np.float32)
    tracemalloc.start()
    try:
        bank = fill_bank(
            ["hour"], [samples], lambda _: itertools.repeat(block, samples // len(block)), "noise"
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bank.stretch(0, samples - 480, 480).min() == 1.0
    assert peak < 200_000_000


def test_more_than_the_memory_that_is_granted_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(banks, "granted_memory", lambda: 90_000)

    def read(number: int) -> list[Wave]:
        raise AssertionError(number)

    with pytest.raises(ConfigError, match="recordings take"):
        fill_bank(["a"], [50_000], read, "noise")
