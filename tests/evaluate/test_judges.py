"""Judges of the full band, of sibilants and of phones."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.voice import voice as made_voice
from timbre.evaluate import full_band, learned_mos
from timbre.evaluate.phones import _edits, phone_error
from timbre.evaluate.sibilants import sibilant_error

JUDGES = [("zimtohrli", full_band.zimtohrli), ("visqol", full_band.visqol)]


def voice(seconds: float = 3.0) -> Tensor:
    return torch.from_numpy(made_voice(seconds, np.random.default_rng(3)))


def noise_like(wave: Tensor, level: float) -> Tensor:
    return level * torch.randn(len(wave), generator=torch.Generator().manual_seed(0))


def low_pass(wave: Tensor, high_hz: float) -> Tensor:
    spectrum = torch.fft.rfft(wave)
    hz = torch.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    return torch.fft.irfft(spectrum * (hz < high_hz), len(wave))


@pytest.mark.parametrize(("package", "judge"), JUDGES)
def test_the_full_band_counts(package: str, judge: Callable[[Tensor, Tensor], float]) -> None:
    """PESQ hears neither that speech ends at 9 kHz nor noise that begins there."""
    pytest.importorskip(package)
    clean = voice()
    best = judge(clean, clean)
    hiss = noise_like(clean, 0.02)
    assert best > 4.5
    assert judge(low_pass(clean, 9000), clean) < best - 0.2
    assert judge(clean + hiss - low_pass(hiss, 9000), clean) < best - 0.2


@pytest.mark.parametrize(("package", "judge"), JUDGES)
def test_an_opinion_does_not_depend_on_the_level_of_the_pair_and_silence_has_none(
    package: str, judge: Callable[[Tensor, Tensor], float]
) -> None:
    pytest.importorskip(package)
    clean = voice(1.5)
    noisy = clean + noise_like(clean, 0.01)
    assert judge(0.1 * noisy, 0.1 * clean) == pytest.approx(judge(noisy, clean), abs=0.02)
    assert math.isnan(judge(torch.zeros(len(clean)), clean))
    assert math.isnan(judge(clean, torch.zeros(len(clean))))


def test_a_cut_sibilant_is_as_wrong_as_the_cut_and_a_cut_vowel_is_not() -> None:
    clean = voice()
    low = low_pass(clean, 4500)
    assert sibilant_error(clean, clean, 24_000.0) == 0
    assert sibilant_error(low + 0.5 * (clean - low), clean, 24_000.0) == pytest.approx(
        6.02, abs=0.3
    )
    assert sibilant_error(0.5 * low + (clean - low), clean, 24_000.0) < 0.3
    assert math.isnan(sibilant_error(clean, clean, 4000.0))
    assert math.isnan(sibilant_error(clean, torch.zeros(len(clean)), 24_000.0))


def test_edits_are_counted_as_levenshtein_does() -> None:
    assert _edits("kitten", "sitting") == 3
    assert _edits("abc", "abc") == 0
    assert _edits("abc", "") == 3 and _edits("abc", "xabcx") == 2


def test_clean_speech_has_no_phone_error_whatever_was_decoded_before() -> None:
    pytest.importorskip("pocketsphinx")
    clean = voice(2.0)
    noisy = clean + noise_like(clean, 0.1)
    first = phone_error(noisy, clean)
    assert phone_error(clean, clean) == 0 and first > 0.1
    assert phone_error(noisy, clean) == first
    assert math.isnan(phone_error(clean, torch.zeros(len(clean))))


def test_the_learned_opinion_falls_with_noise_and_silence_has_none() -> None:
    pytest.importorskip("distillmos")
    clean = voice(2.0)
    assert learned_mos.opinion(clean) > learned_mos.opinion(clean + noise_like(clean, 0.3))
    assert math.isnan(learned_mos.opinion(torch.zeros(len(clean))))
    assert math.isnan(learned_mos.opinion(clean[:100]))
