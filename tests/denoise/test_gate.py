"""Spectral gating, beside the package that does it."""

import numpy as np
import pytest

from tests.help.degrade_inputs import Clips, assert_in_time, make_clips
from timbre.audio import SAMPLE_RATE, Wave
from timbre.denoise.gate import CHUNK, Gate

package = pytest.importorskip("noisereduce")


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips()


def test_the_gate_equals_its_own_package(clips: Clips) -> None:
    noisy = [pair[1] for pair in clips]
    for clip, result in zip(noisy, Gate().denoise_clips(noisy), strict=True):
        np.testing.assert_array_equal(result, package.reduce_noise(clip, SAMPLE_RATE))
        assert result.dtype == np.float32


def test_a_long_clip_is_cut_as_the_package_cuts_it() -> None:
    rng = np.random.default_rng(0)
    clip = (0.1 * rng.standard_normal(CHUNK + 4801)).astype(np.float32)
    (result,) = Gate().denoise_clips([clip])
    np.testing.assert_array_equal(result, package.reduce_noise(clip, SAMPLE_RATE))


def test_the_gate_gives_clips_as_long_as_they_were_and_in_time(clips: Clips) -> None:
    assert_in_time(clips, "gate")


@pytest.mark.parametrize("samples", [0, 1, 100, 48_000])
def test_silence_of_any_length_stays_silence(samples: int) -> None:
    silence: Wave = np.zeros(samples, np.float32)
    (result,) = Gate().denoise_clips([silence])
    np.testing.assert_array_equal(result, silence)


@pytest.mark.parametrize("samples", [1, 479, 1024])
def test_a_short_clip_keeps_its_length(samples: int) -> None:
    (result,) = Gate().denoise_clips([np.full(samples, 0.1, np.float32)])
    assert result.shape == (samples,) and np.isfinite(result).all()
