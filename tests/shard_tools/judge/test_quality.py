"""Whether a pair is fit to train on: fair ones pass, each fault has its reason."""

import json

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from shard_tools.judge.quality import PairQuality, QualityConfig, measure_pair, reason_to_refuse
from tests.help.denoise_inputs import noisy_voice
from timbre.audio.align import Alignment, estimate_offset
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.room import room_response
from timbre.audio.synthetic.voice import voice

Wave = NDArray[np.float32]
RATE = 48_000
SNR_DB = 10.0
CONFIG = QualityConfig()
SEEDS = range(4)


def apply_gains(wave: Wave, gains: NDArray[np.float64]) -> Wave:
    result: Wave = np.fft.irfft(np.fft.rfft(wave) * gains, len(wave)).astype(np.float32)
    return result


def low_pass(wave: Wave, cut_hz: float) -> Wave:
    return apply_gains(wave, np.where(np.fft.rfftfreq(len(wave), 1 / RATE) < cut_hz, 1.0, 0.0))


@pytest.fixture(scope="module")
def clips() -> list[Wave]:
    return [voice(3.0, np.random.default_rng(seed)) for seed in SEEDS]


@pytest.fixture(scope="module")
def disturbances() -> list[Wave]:
    return [noise("pink", 3.0, np.random.default_rng(seed)) for seed in SEEDS]


def gate(clean: Wave, noisy: Wave, degraded: Wave, more_noise: bool = False) -> str | None:
    figures = measure_pair(clean, noisy, degraded, estimate_offset(clean, degraded, 2400))
    return reason_to_refuse(figures, SNR_DB, CONFIG, more_noise)


def mixture(clean: Wave, disturbance: Wave, snr_db: float = SNR_DB) -> Wave:
    scale = np.sqrt(np.mean(clean**2) / np.mean(disturbance**2)) * 10 ** (-snr_db / 20)
    noisy: Wave = (clean + scale * disturbance).astype(np.float32)
    return noisy


def denoised(clean: Wave, disturbance: Wave) -> Wave:
    """Return what a fair denoiser leaves: little noise, no quiet bins, nearly the same level."""
    return 0.9 * mixture(clean, disturbance, SNR_DB + 10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("offset", [-300, 0, 480])
def test_a_fair_pair_passes(
    clips: list[Wave], disturbances: list[Wave], seed: int, offset: int
) -> None:
    clean, disturbance = clips[seed], disturbances[seed]
    degraded = np.roll(denoised(clean, disturbance), offset)
    assert gate(clean, mixture(clean, disturbance), degraded) is None


def test_a_fair_pair_in_a_room_passes(clips: list[Wave], disturbances: list[Wave]) -> None:
    clean = clips[0]
    response = room_response(0.4, np.random.default_rng(0), direct_delay=0)
    n_fft = len(clean) + len(response)
    wet = np.fft.irfft(np.fft.rfft(clean, n_fft) * np.fft.rfft(response, n_fft), n_fft)
    speech = wet[: len(clean)].astype(np.float32)
    noisy = mixture(speech, disturbances[0])
    assert gate(clean, noisy, denoised(speech, disturbances[0]), more_noise=True) is None


def test_silent_clean_is_refused(clips: list[Wave], disturbances: list[Wave]) -> None:
    faint = (1e-3 * clips[0]).astype(np.float32)
    blip = np.zeros_like(clips[0])
    blip[RATE : RATE + 4800] = clips[0][RATE : RATE + 4800]
    for clean in (np.zeros_like(clips[0]), faint, blip):
        noisy = (clean + 0.1 * disturbances[0]).astype(np.float32)
        assert gate(clean, noisy, clean) == "silent_clean"


def test_clipped_clean_is_refused_at_any_level(clips: list[Wave], disturbances: list[Wave]) -> None:
    limit = 0.2 * np.abs(clips[1]).max()
    clean = 0.3 * np.clip(clips[1], -limit, limit)
    assert gate(clean, mixture(clean, disturbances[1]), clean) == "clipped_clean"


@pytest.mark.parametrize("side", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_non_finite_sample_anywhere_is_refused(
    clips: list[Wave], disturbances: list[Wave], side: int, value: float
) -> None:
    sides = [clips[0], mixture(clips[0], disturbances[0]), denoised(clips[0], disturbances[0])]
    sides[side] = sides[side].copy()
    sides[side][5000] = value
    alignment = estimate_offset(clips[0], denoised(clips[0], disturbances[0]), 2400)
    figures = measure_pair(sides[0], sides[1], sides[2], alignment)
    assert reason_to_refuse(figures, SNR_DB, CONFIG) == "non_finite"
    assert np.isfinite(figures).all()


@pytest.mark.parametrize("reached_db", [4.0, 16.0])
def test_a_missed_ratio_is_refused(
    clips: list[Wave], disturbances: list[Wave], reached_db: float
) -> None:
    noisy = mixture(clips[2], disturbances[2], reached_db)
    assert gate(clips[2], noisy, denoised(clips[2], disturbances[2])) == "snr_missed"


def test_a_mixture_without_its_noise_is_refused_even_in_a_room(clips: list[Wave]) -> None:
    assert gate(clips[0], clips[0], clips[0], more_noise=True) == "snr_missed"


def test_a_denoiser_that_swallows_speech_is_refused(
    clips: list[Wave], disturbances: list[Wave]
) -> None:
    clean, noisy = clips[3], mixture(clips[3], disturbances[3])
    faint = 0.1 * denoised(clean, disturbances[3])
    rumble_only = low_pass(clean, 300)
    for degraded in (faint, rumble_only):
        figures = measure_pair(clean, noisy, degraded, Alignment(0, 0.0, 0.9))
        assert reason_to_refuse(figures, SNR_DB, CONFIG) == "denoiser_lost_speech"


def test_another_recording_is_refused_as_unaligned(
    clips: list[Wave], disturbances: list[Wave]
) -> None:
    assert gate(clips[0], mixture(clips[0], disturbances[0]), clips[1]) == "unaligned"


def test_a_short_pair_is_refused(clips: list[Wave], disturbances: list[Wave]) -> None:
    piece = slice(RATE, RATE + 20_000)
    sides = clips[0], mixture(clips[0], disturbances[0]), denoised(clips[0], disturbances[0])
    for stretch in (piece, slice(0)):
        clean, noisy, degraded = (side[stretch] for side in sides)
        assert gate(clean, noisy, degraded) == "too_short"


def test_an_offset_shortens_what_counts(clips: list[Wave]) -> None:
    figures = measure_pair(clips[0], clips[0], clips[0], Alignment(-RATE, 0.0, 1.0))
    assert figures.seconds == pytest.approx(2.0)


def test_figures_measure_what_was_made(clips: list[Wave], disturbances: list[Wave]) -> None:
    clean = clips[0]
    degraded = np.roll(0.5 * clean, 100)
    figures = measure_pair(
        clean, mixture(clean, disturbances[0], 7.0), degraded, Alignment(100, 0, 1)
    )
    assert figures.snr_db == pytest.approx(7.0, abs=0.01)
    assert figures.kept_db == pytest.approx(-6.02, abs=0.01)
    assert figures.spectral_correlation == pytest.approx(1.0, abs=0.01)
    assert figures.clean_db == pytest.approx(-25.0, abs=1.0)
    assert figures.flat_share < 1e-3


def test_figures_survive_json(clips: list[Wave]) -> None:
    nothing = np.zeros(RATE, dtype=np.float32)
    for sides in ((clips[0],) * 3, (nothing,) * 3, (nothing[:0],) * 3):
        figures = measure_pair(*sides, estimate_offset(sides[0], sides[2], 2400))
        text = json.dumps(figures._asdict(), allow_nan=False)
        assert PairQuality(**json.loads(text)) == figures


def test_thresholds_are_checked() -> None:
    with pytest.raises(ValidationError, match="min_confidence"):
        QualityConfig(min_confidence=1.5)
    with pytest.raises(ValidationError, match="snr_tolerance_db"):
        QualityConfig(snr_tolerance_db=0.0)


def test_the_thresholds_of_the_config_decide(clips: list[Wave], disturbances: list[Wave]) -> None:
    clean = clips[0]
    figures = measure_pair(
        clean,
        mixture(clean, disturbances[0]),
        denoised(clean, disturbances[0]),
        Alignment(0, 0, 0.4),
    )
    assert reason_to_refuse(figures, SNR_DB, CONFIG) == "unaligned"
    assert reason_to_refuse(figures, SNR_DB, QualityConfig(min_confidence=0.3)) is None


Pair = tuple[Wave, Wave, Wave]


def fair_pair() -> Pair:
    """Clean speech, the same at 10 dB in noise, and what a fair denoiser leaves of that."""
    clean = voice(2.0, np.random.default_rng(3))
    disturbance = noise("pink", 2.0, np.random.default_rng(4))
    disturbance *= np.float32(clean.std() / disturbance.std())
    return clean, clean + np.float32(10**-0.5) * disturbance, 0.9 * clean + 0.1 * disturbance


def replace_side(pair: Pair, side: int, wave: Wave) -> Pair:
    clean, noisy, degraded = (wave if number == side else old for number, old in enumerate(pair))
    return clean, noisy, degraded


def clip(pair: Pair) -> Pair:
    limit = 0.2 * np.abs(pair[0]).max()
    clean = np.clip(pair[0], -limit, limit)
    return clean, clean + pair[1] - pair[0], clean


FAULTS = {
    "too_short": lambda p: tuple(side[20_000:40_000] for side in p),
    "silent_clean": lambda p: (1e-3 * p[0], p[1], p[2]),
    "snr_missed": lambda p: replace_side(p, 1, p[0] + 2 * (p[1] - p[0])),
    "clipped_clean": clip,
    "denoiser_lost_speech": lambda p: replace_side(p, 2, 0.05 * p[2]),
    "unaligned": lambda p: replace_side(p, 2, voice(2.0, np.random.default_rng(99))),
    "non_finite": lambda p: replace_side(p, 1, np.where(np.arange(96_000) == 9, np.nan, p[1])),
    None: lambda p: p,
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_pair_with_a_fault_is_refused_by_its_name_and_a_fair_one_passes(
    reason: str | None,
) -> None:
    clean, noisy, degraded = FAULTS[reason](fair_pair())
    figures = measure_pair(clean, noisy, degraded, estimate_offset(clean, degraded, 960))
    assert reason_to_refuse(figures, 10.0, QualityConfig()) == reason


@pytest.fixture(scope="module")
def noisy() -> list[torch.Tensor]:
    return [noisy_voice(samples, samples) for samples in (48_000, 30_123, 9_601)]
