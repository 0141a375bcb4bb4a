"""The gains behind augmentation, against closed forms."""

import numpy as np
import pytest
import torch

from timbre.audio import filters

SAMPLES = 24000


def holes_of(*rows: tuple[float, float, float, float, float]) -> torch.Tensor:
    return torch.tensor([rows])


def test_holes_that_do_not_overlap_leave_each_other_alone() -> None:
    holes = holes_of((6, 0.3, 0.05, 1000, 1), (10, 0.7, 0.05, 9000, 0.5), (0, 0.5, 0.3, 4000, 4))
    gain_db = 20 * filters.hole_gain(holes, 51, SAMPLES)[0].log10()
    for time, bin_, depth_db in [(15, 20, 6), (35, 180, 10), (15, 180, 0), (35, 20, 0)]:
        assert gain_db[time, bin_].item() == pytest.approx(-depth_db, abs=1e-4)


def test_depths_of_overlapping_holes_add_up() -> None:
    holes = holes_of((6, 0.5, 0.2, 4000, 1), (3, 0.5, 0.1, 5000, 1))
    gain_db = 20 * filters.hole_gain(holes, 51, SAMPLES)[0].log10()
    assert gain_db[25, 90].item() == pytest.approx(-9, abs=1e-4)


def test_the_edges_of_a_hole_are_half_a_cosine() -> None:
    holes = holes_of((8, 0.5, 0.1, 4000, 1))  # around frame 25
    gain_db = 20 * filters.hole_gain(holes, 51, SAMPLES)[0].log10()
    # 20 ms are two frames; a sixth of an octave above 4 kHz * sqrt(2) is 6350 Hz, bin 127.
    for time, depth_db in [(30, 8), (31, 4), (32, 0), (20, 8), (19, 4), (18, 0)]:
        assert gain_db[time, 80].item() == pytest.approx(-depth_db, abs=1e-3)
    into = 6 * (np.log2(120 * 50 / 4000) - 0.5)
    expected = -8 * (0.5 + 0.5 * np.cos(np.pi * into))
    assert gain_db[25, 120].item() == pytest.approx(expected, abs=1e-3)
    assert gain_db[25, 113].item() == pytest.approx(-8, abs=1e-3)
    assert gain_db[25, 127].item() == pytest.approx(0, abs=1e-3)


def test_frames_give_back_the_waveform() -> None:
    wave = torch.randn(2, 5003)
    again = filters.synthesise(filters.analyse(wave), 5003)
    torch.testing.assert_close(again, wave, atol=2e-6, rtol=0)
