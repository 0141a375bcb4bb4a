"""Is a finished pair fit to train on, and if not, why?

``measure_pair`` gives plain figures that go into the pair's meta; ``reason_to_refuse`` holds them against thresholds.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from timbre.audio import LEVEL_FRAME, SAMPLE_RATE, SILENCE_DB, SPEECH_RANGE_DB, Wave, level_db
from timbre.audio.align import MIN_CONFIDENCE, Alignment
from timbre.config import STRICT, Fraction, NonNegative, Positive

Reason = Literal[
    "non_finite",
    "too_short",
    "silent_clean",
    "silent_noise",
    "clipped_clean",
    "snr_missed",
    "denoiser_lost_speech",
    "unaligned",
]

# Keeps a ratio to silence finite, as JSON needs it; silence itself is SILENCE_DB.
CEILING_DB = 100.0
# Samples this near the peak, beside one as near, are a flat top.
FLAT_TOP = 0.995
# Speech for the correlation of spectra: third-octave-like bands, and how far below the loudest counts.
LOWEST_BAND_HZ = 150.0
HIGHEST_BAND_HZ = 8000.0
BANDS = 24
SPECTRAL_RANGE_DB = 50.0


@dataclass(config=STRICT)
class QualityConfig:
    """What a pair must reach; the defaults are calibrated on speech at 0 to 20 dB SNR after DF3."""

    min_seconds: NonNegative = 0.5
    min_active_seconds: NonNegative = 0.3
    # Level of the speech in its active frames, as it was in the recording: what lies deeper would be
    # room noise and 16-bit steps, raised to the level of speech. The clean side must reach it too.
    min_clean_db: float = -55.0
    # Share of the clean side's active samples that lie on flat tops at its peak.
    max_flat_share: Fraction = 0.002
    snr_tolerance_db: Positive = 2.0
    # Level of the degraded side against the clean one in the clean side's active frames.
    min_kept_db: float = -10.0
    min_spectral_correlation: float = 0.5
    min_confidence: Fraction = MIN_CONFIDENCE


class PairQuality(NamedTuple):
    """What was measured of a pair; plain finite floats, ``_asdict()`` goes into its meta.

    ``snr_db`` is the energy of clean over that of noisy minus clean, so in a reverberant pair the
    room counts as noise. ``kept_db`` is the level of degraded against clean where clean is active.
    """

    finite_share: float
    seconds: float
    active_seconds: float
    clean_db: float
    flat_share: float
    snr_db: float
    kept_db: float
    spectral_correlation: float
    confidence: float


def measure_pair(clean: Wave, noisy: Wave, degraded: Wave, alignment: Alignment) -> PairQuality:
    """Return the figures of a pair whose three sides are ``(samples,)`` at 48 kHz.

    Non-finite samples are counted, then taken as 0 in the other figures.
    """
    sides = (clean, noisy, degraded)
    finite = min(float(np.isfinite(side).mean()) if side.size else 1.0 for side in sides)
    if finite < 1:
        clean, noisy, degraded = (np.nan_to_num(s, posinf=0.0, neginf=0.0) for s in sides)
    overlap_clean, overlap_degraded = _overlap(clean, degraded, alignment.offset)
    active = _active_frames(overlap_clean)
    clean_frames, degraded_frames = (_frames(s)[active] for s in (overlap_clean, overlap_degraded))
    common = min(len(clean), len(noisy))
    return PairQuality(
        finite_share=finite,
        seconds=len(overlap_clean) / SAMPLE_RATE,
        active_seconds=len(clean_frames) * LEVEL_FRAME / SAMPLE_RATE,
        clean_db=level_db(clean_frames),
        flat_share=_flat_share(clean_frames),
        snr_db=_ratio_db(clean[:common], noisy[:common] - clean[:common]),
        kept_db=_ratio_db(degraded_frames, clean_frames),
        spectral_correlation=_spectral_correlation(clean_frames, degraded_frames),
        confidence=alignment.confidence,
    )


def reason_to_refuse(
    figures: PairQuality, snr_db: float, config: QualityConfig, more_noise: bool = False
) -> Reason | None:
    """Return why a pair is refused, or None for a good one; the first reason in order counts.

    ``silent_noise`` is never among them: of silence no pair is made.

    Args:
        figures: of the pair.
        snr_db: what was asked of the mixture, dB.
        config: the thresholds.
        more_noise: the noisy side holds more beside the clean one than the noise that was asked for,
            such as a room, so that only a ratio far above the asked one can be noticed.
    """
    excess = figures.snr_db - snr_db
    missed_above = excess > config.snr_tolerance_db
    missed_below = excess < -config.snr_tolerance_db and not more_noise
    is_lost = (
        figures.kept_db < config.min_kept_db
        or figures.spectral_correlation < config.min_spectral_correlation
    )
    is_silent = (
        figures.active_seconds < config.min_active_seconds or figures.clean_db < config.min_clean_db
    )
    checks: tuple[tuple[Reason, bool], ...] = (
        ("non_finite", figures.finite_share < 1),
        ("too_short", figures.seconds < config.min_seconds),
        ("silent_clean", is_silent),
        ("clipped_clean", figures.flat_share > config.max_flat_share),
        ("snr_missed", missed_above or missed_below),
        ("unaligned", figures.confidence < config.min_confidence),
        ("denoiser_lost_speech", is_lost),
    )
    return next((reason for reason, fails in checks if fails), None)


def _overlap(clean: Wave, degraded: Wave, offset: int) -> tuple[Wave, Wave]:
    """Return the stretches of both sides that lie on each other."""
    clean, degraded = clean[max(-offset, 0) :], degraded[max(offset, 0) :]
    common = min(len(clean), len(degraded))
    return clean[:common], degraded[:common]


def _frames(wave: Wave) -> Wave:
    whole = len(wave) // LEVEL_FRAME * LEVEL_FRAME
    return wave[:whole].reshape(-1, LEVEL_FRAME)


def _active_frames(clean: Wave) -> NDArray[np.bool_]:
    """Return which 20-ms frames hold speech: those near enough to the loudest."""
    power = np.square(_frames(clean), dtype=np.float64).mean(axis=1)
    loudest = power.max(initial=0.0)
    active: NDArray[np.bool_] = power > loudest * 10 ** (-SPEECH_RANGE_DB / 10)
    return active


def _ratio_db(numerator: Wave, denominator: Wave) -> float:
    """Return the ratio of two levels, between ``SILENCE_DB`` and ``CEILING_DB``."""
    return min(max(level_db(numerator) - level_db(denominator), SILENCE_DB), CEILING_DB)


def _flat_share(frames: Wave) -> float:
    """Return the share of samples on flat tops: neighbours that both lie at the peak of the clip."""
    if not frames.size:
        return 0.0
    size = np.abs(frames)
    top = size >= FLAT_TOP * size.max()
    return float(np.mean(top[:, 1:] & top[:, :-1]))


def _spectral_correlation(clean: Wave, degraded: Wave) -> float:
    """Return the correlation of the two sides' log spectra over frames and bands, 0 where undefined."""
    if not len(clean):
        return 0.0
    one, other = _log_bands(clean), _log_bands(degraded)
    one, other = one - one.mean(), other - other.mean()
    size = math.sqrt(float(np.sum(one**2)) * float(np.sum(other**2)))
    return float(np.sum(one * other)) / size if size > 0 else 0.0


def _log_bands(frames: Wave) -> NDArray[np.float64]:
    """Return the levels ``(frames, bands)`` in dB, cut off ``SPECTRAL_RANGE_DB`` below the loudest."""
    window = torch.hann_window(LEVEL_FRAME, periodic=False)
    power = torch.fft.rfft(torch.from_numpy(frames) * window).abs().square().double().numpy()
    edges_hz = np.geomspace(LOWEST_BAND_HZ, HIGHEST_BAND_HZ, BANDS)
    edges = np.unique(np.rint(edges_hz * LEVEL_FRAME / SAMPLE_RATE).astype(int))
    levels = 10 * np.log10(np.add.reduceat(power, edges, axis=1)[:, :-1] + 1e-20)
    bands: NDArray[np.float64] = np.maximum(levels, levels.max() - SPECTRAL_RANGE_DB)
    return bands
