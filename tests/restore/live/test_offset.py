"""A constant offset under a live signal changes nothing that is heard; without one no bit changes."""

import math

import numpy as np
import pytest
import torch

from tests.restore.live.test_restorer import live
from timbre.audio import HOP, SAMPLE_RATE, Wave, working_level
from timbre.audio.synthetic.voice import voice as synthetic_voice
from timbre.models import CAUSAL
from timbre.restore.live.offset import OffsetRemover
from timbre.restore.live.restorer import LiveRestorer, Mix
from timbre.restore.restorer import Restorer

PAUSE, SAMPLES = SAMPLE_RATE // 5, 4 * SAMPLE_RATE + 77
# Frequencies that are heard; above them results must be alike.
HEARD_HZ = 60


def voice(seed: int = 0) -> Wave:
    """A voice ``(1, samples)`` at -25 dBFS in a little noise, after a pause."""
    rng = np.random.default_rng(seed)
    wave = synthetic_voice((SAMPLES - PAUSE) / SAMPLE_RATE, rng)
    signal: Wave = np.pad(wave, (PAUSE, 0)) + 0.001 * rng.standard_normal(SAMPLES)
    return signal[None].astype(np.float32)


def remove_offset(signal: Wave, sizes: list[int]) -> Wave:
    remover, out, first, turn = OffsetRemover(len(signal)), [], 0, 0
    while first < signal.shape[1]:
        size = sizes[turn % len(sizes)]
        out.append(remover.push(signal[:, first : first + size]))
        first, turn = first + size, turn + 1
    return np.concatenate([*out, remover.flush()], axis=1)


def alike_db(one: Wave, other: Wave) -> float:
    """How far the difference of two signals is below them, above 60 Hz."""
    spectra = [
        np.fft.rfft(wave[0])[HEARD_HZ * wave.shape[1] // SAMPLE_RATE :] for wave in (one, other)
    ]
    difference = np.sum(np.abs(spectra[0] - spectra[1]) ** 2)
    return float(10 * np.log10(np.sum(np.abs(spectra[1]) ** 2) / max(difference, 1e-30)))


@pytest.mark.parametrize("seed", range(4))
def test_a_signal_without_an_offset_keeps_its_bits(seed: int) -> None:
    np.testing.assert_array_equal(remove_offset(voice(seed), [HOP]), voice(seed))


def test_rows_are_treated_alone_and_however_they_are_cut() -> None:
    signal = np.concatenate([voice(0), voice(1) + np.float32(0.1)])
    at_once = remove_offset(signal, [SAMPLES])
    np.testing.assert_array_equal(remove_offset(signal, [1, 700, 0, 5000, 33]), at_once)
    np.testing.assert_array_equal(at_once[0], signal[0])
    assert np.abs(at_once[1, SAMPLE_RATE:] - voice(1)[0, SAMPLE_RATE:]).max() < 0.002


@pytest.mark.parametrize("offset", [0.05, -0.01])
def test_with_an_offset_what_comes_out_is_that_of_the_whole_file(offset: float) -> None:
    signal = voice() + np.float32(offset)
    gains = working_level([signal], SAMPLE_RATE).gains
    whole = Restorer.load(CAUSAL, device="cpu").process(torch.from_numpy(signal)).restored.numpy()
    mix = Mix(input_gain_db=20 * math.log10(float(gains)))
    result = live(LiveRestorer.load(CAUSAL, mix=mix), signal, [HOP])
    assert alike_db(result, whole) > 40
    assert abs(result.mean()) < abs(offset) / 100


def test_an_offset_that_begins_in_a_pause_goes_within_a_second() -> None:
    signal = voice()
    signal[:, 2 * SAMPLE_RATE :] = 1e-4 * signal[:, 2 * SAMPLE_RATE :] + np.float32(0.05)
    assert abs(remove_offset(signal, [HOP])[0, 3 * SAMPLE_RATE :].mean()) < 0.035
