"""Noise that no pair holds, in every validation."""

import math

import pytest
import torch
from torch import Tensor

from timbre.audio import level_db
from timbre.audio.synthetic.denoised_probe import RESIDUE_DB, denoised_probes
from timbre.train.validation.score import score
from timbre.train.validation.stress import FREE_LIFT_DB, PREFIX, measure_stress, stress_penalty

CPU = torch.device("cpu")


def test_the_denoised_side_holds_the_noise_far_down_and_the_speech_whole() -> None:
    for probe in denoised_probes():
        rest, noise = probe.degraded - probe.clean, probe.noisy - probe.clean
        assert level_db(rest) - level_db(noise) == pytest.approx(RESIDUE_DB, abs=0.1)
        assert probe.clean.any() == probe.name.startswith("speech")


def test_a_generator_that_changes_nothing_lifts_nothing_and_costs_nothing() -> None:
    lifts = measure_stress(lambda degraded, noisy: degraded, CPU, noisy=True)
    assert set(lifts.values()) == {0.0} and stress_penalty(lifts) == 0


def test_noise_let_through_is_a_lift_by_what_the_denoiser_removed() -> None:
    def leaking(degraded: Tensor, noisy: Tensor | None) -> Tensor:
        assert noisy is not None
        return noisy

    lifts = measure_stress(leaking, CPU, noisy=True)
    assert all(lift == pytest.approx(-RESIDUE_DB, abs=0.1) for lift in lifts.values())
    assert stress_penalty(lifts) == pytest.approx(0.01 * (-RESIDUE_DB - FREE_LIFT_DB), abs=1e-3)


def test_a_generator_without_the_noisy_signal_gets_none() -> None:
    inputs: list[Tensor | None] = []

    def recording(degraded: Tensor, noisy: Tensor | None) -> Tensor:
        inputs.append(noisy)
        return 2 * degraded

    lifts = measure_stress(recording, CPU, noisy=False)
    assert inputs == [None] * len(denoised_probes())
    assert all(lift == pytest.approx(6.02, abs=0.01) for lift in lifts.values())


def test_noise_set_free_counts_in_the_score_and_a_broken_output_makes_it_infinite() -> None:
    assert score({PREFIX + "white": FREE_LIFT_DB}) == 1
    assert score({PREFIX + "white": FREE_LIFT_DB + 20, PREFIX + "hum": 0.0}) == pytest.approx(1.1)
    assert score({PREFIX + "white": math.nan}) == math.inf
