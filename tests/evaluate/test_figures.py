"""Figures against their definitions, computed anew without our code, and against their packages."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio.functional import resample

from timbre.audio import SAMPLE_RATE, metrics
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.evaluate import figures

N_FFT, HOP = 2048, 512
SPECTRAL = [name for name in figures.FIGURES if name.startswith(("lsd", "over_suppressed"))]


def voice_pair(seconds: float = 1.5) -> tuple[Tensor, Tensor]:
    """A voice that was muffled and has noise, and the voice."""
    rng = np.random.default_rng(7)
    clean = voice(seconds, rng)
    spectrum = np.fft.rfft(clean) * np.linspace(1.0, 0.1, len(clean) // 2 + 1)
    estimate = np.fft.irfft(spectrum, len(clean)) + 0.01 * noise("pink", seconds, rng)
    return torch.from_numpy(estimate.astype(np.float32)), torch.from_numpy(clean)


def brute_force(
    estimate: Tensor, clean: Tensor, low: float, high: float, bandwidth: float
) -> tuple[float, float]:
    """Log-spectral distance and over-suppressed share of one band, bin by bin."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    powers = []
    for wave in (estimate, clean):
        longer = np.pad(wave.double().numpy(), N_FFT // 2)
        count = (len(longer) - N_FFT) // HOP + 1
        frames = [longer[n * HOP : n * HOP + N_FFT] * window for n in range(count)]
        powers.append([np.abs(np.fft.rfft(frame)) ** 2 for frame in frames])
    hz = [k * SAMPLE_RATE / N_FFT for k in range(N_FFT // 2 + 1)]
    peak = max(frame[k] for frame in powers[1] for k in range(len(hz)) if hz[k] <= bandwidth)
    distances, losses, active = [], 0, 0
    for mine, reference in zip(*powers, strict=True):
        squares = []
        for k in range(len(hz)):
            if low <= hz[k] <= min(high, bandwidth) and reference[k] > peak * 1e-6:
                gap = 10 * math.log10(max(mine[k], peak * 1e-8) / reference[k])
                squares.append(gap**2)
                losses += gap < -6
                active += 1
        if squares:
            distances.append(math.sqrt(sum(squares) / len(squares)))
    return sum(distances) / len(distances), losses / active


@pytest.mark.parametrize("bandwidth", [24_000.0, 11_000.0])
def test_spectral_figures_are_what_counting_bin_by_bin_gives(bandwidth: float) -> None:
    estimate, clean = voice_pair(0.6)
    values, troubles = figures.measure(estimate, clean, bandwidth, SPECTRAL)
    assert not troubles
    for low, high, names in [
        (0, 8000, ("lsd_0_8k", None)),
        (8000, 24_000, ("lsd_8_24k", None)),
        (0, 24_000, (None, "over_suppressed")),
        (0, 4000, (None, "over_suppressed_0_4k")),
    ]:
        for name, expected in zip(
            names, brute_force(estimate, clean, low, high, bandwidth), strict=True
        ):
            if name:
                assert values[name] == pytest.approx(expected, rel=1e-4), name


def test_perceptual_figures_are_those_of_their_packages() -> None:
    pesq, stoi = (pytest.importorskip(name) for name in ("pesq", "pystoi"))
    estimate, clean = voice_pair()
    mine, reference = (resample(x, SAMPLE_RATE, 16_000).numpy() for x in (estimate, clean))
    values, _ = figures.measure(estimate, clean, 24_000.0, ("pesq", "stoi", "estoi"))
    assert values["pesq"] == pytest.approx(pesq.pesq(16_000, reference, mine, "wb"), abs=1e-3)
    for name, is_extended in (("stoi", False), ("estoi", True)):
        theirs = stoi.stoi(reference, mine, 16_000, extended=is_extended)
        assert values[name] == pytest.approx(theirs, abs=1e-5)


def test_the_bands_of_the_over_suppressed_share_make_up_the_whole() -> None:
    """The mean is weighted by bins. Edges belong to two bands, so the last digits differ."""
    estimate, clean = voice_pair()
    comparison = metrics.compare(estimate, clean, 24_000.0)
    values, _ = figures.measure(estimate, clean, 24_000.0, SPECTRAL)
    bins = [float(comparison.in_band(*band).sum()) for band in figures.BANDS.values()]
    shares = [values[f"over_suppressed_{name}"] for name in figures.BANDS]
    whole = np.average(shares, weights=bins)
    assert values["over_suppressed"] == pytest.approx(whole, abs=0.003)


def test_a_metric_that_fails_is_named_and_costs_no_other_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A real failure: PESQ's C code refuses a rate that it does not know."""
    pytest.importorskip("pesq")
    monkeypatch.setattr(metrics, "PERCEPTUAL_RATE", 12_000)
    estimate, clean = voice_pair(0.6)
    values, troubles = figures.measure(estimate, clean, 24_000.0, ("pesq", "si_sdr"))
    assert math.isnan(values["pesq"]) and math.isfinite(values["si_sdr"])
    assert len(troubles) == 1 and troubles[0].startswith("pesq: ")


def test_an_estimate_that_is_not_finite_has_no_figure_and_says_so() -> None:
    _, clean = voice_pair(0.6)
    values, troubles = figures.measure(clean * math.nan, clean, 24_000.0, ("si_sdr", "leak_db"))
    assert all(math.isnan(value) for value in values.values()) and troubles == ["is not finite"]


def test_every_figure_is_measured_by_one_metric_and_only_those_asked_for() -> None:
    names = [name for metric in figures.METRICS for name in metric.names]
    assert sorted(names) == sorted(figures.FIGURES)
    estimate, clean = voice_pair(0.6)
    assert list(figures.measure(estimate, clean, 24_000.0, ("lsd_8_24k",))[0]) == ["lsd_8_24k"]
