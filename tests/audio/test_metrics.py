import math
import sys

import pytest
import torch
from torch import Tensor

from timbre.audio import SAMPLE_RATE
from timbre.audio.metrics import (
    compare,
    estoi,
    leak_db,
    log_spectral_distance,
    lost_share_in,
    mel_distance,
    perceptual_gap,
    pesq_wideband,
    si_sdr,
)
from timbre.errors import MissingPackageError
from timbre.train.losses.reconstruction import ReconstructionLoss

FULL_HZ = 24000.0


def over_suppressed_share(
    estimate: Tensor,
    reference: Tensor,
    low_hz: float,
    high_hz: float,
    bandwidth_hz: float | Tensor,
    drop_db: float = 6.0,
) -> Tensor:
    """The share of active bins that the estimate lost."""
    return lost_share_in(compare(estimate, reference, bandwidth_hz), low_hz, high_hz, drop_db)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency_hz: float, amplitude: float = 0.1, samples: int = SAMPLE_RATE) -> Tensor:
    """A tone that fades in and out, so that it stays within its band."""
    time = torch.arange(samples).double() / SAMPLE_RATE
    fade = torch.hann_window(samples, dtype=torch.float64)
    return amplitude * fade * torch.sin(2 * math.pi * frequency_hz * time)


def voice(samples: int = SAMPLE_RATE * 2, seed: int = 0) -> Tensor:
    """A buzz of moving pitch in syllables: enough of a voice for PESQ and ESTOI."""
    time = torch.arange(samples) / SAMPLE_RATE
    phase = 2 * math.pi * (120 * time + 6 * torch.sin(2 * math.pi * 0.7 * time))
    buzz = sum(torch.sin(k * phase) / k for k in range(1, 60))
    syllables = torch.sin(2 * math.pi * 2.5 * time).clamp(min=0)
    return 0.05 * (buzz + 0.1 * noise(samples, seed=seed)) * syllables


@pytest.mark.parametrize("ratio_db", [-10.0, 0.0, 25.0])
def test_si_sdr_of_a_tone_plus_another_is_their_ratio_at_any_scale(ratio_db: float) -> None:
    reference, other = tone(1000.0), tone(3000.0, 0.1 * 10 ** (-ratio_db / 20))
    for gain in (1.0, -0.3, 1e-4):
        assert si_sdr(gain * (reference + other), reference).item() == pytest.approx(
            ratio_db, abs=1e-6
        )


def test_si_sdr_ignores_offsets_and_is_bounded() -> None:
    reference = tone(1000.0)
    assert si_sdr(reference, reference).item() == 100
    assert si_sdr(reference + 0.5, reference).item() == pytest.approx(100, abs=1)
    assert si_sdr(torch.zeros_like(reference), reference).item() == -100
    assert si_sdr(reference, torch.zeros_like(reference)).isnan()


@pytest.mark.parametrize("gain_db", [6.02, -12.0])
def test_log_spectral_distance_of_a_gain_is_the_gain(gain_db: float) -> None:
    reference = noise(2, SAMPLE_RATE)
    estimate = reference * 10 ** (gain_db / 20)
    for band in ((0.0, 8000.0), (8000.0, FULL_HZ)):
        distance = log_spectral_distance(estimate, reference, *band, FULL_HZ)
        torch.testing.assert_close(distance, torch.full((2,), abs(gain_db)).double())


def test_log_spectral_distance_is_not_flattered_by_a_floor_in_silent_bins() -> None:
    reference = tone(1000.0)
    quiet = 1e-6 * noise(SAMPLE_RATE).double()
    plain = log_spectral_distance(reference, reference + quiet, 0.0, FULL_HZ, FULL_HZ)
    with_floor = log_spectral_distance(
        reference + quiet.flip(0), reference + quiet, 0.0, FULL_HZ, FULL_HZ
    )
    assert plain.item() < 0.05
    assert abs((with_floor - plain).item()) < 0.05


def test_log_spectral_distance_of_an_erased_clip_is_bounded() -> None:
    reference = noise(SAMPLE_RATE)
    distance = log_spectral_distance(torch.zeros_like(reference), reference, 0.0, FULL_HZ, FULL_HZ)
    assert 60 < distance.item() <= 80


def test_what_lies_above_the_bandwidth_changes_no_spectral_metric() -> None:
    reference = tone(1000.0) + tone(5000.0, 0.03)
    estimate = 0.4 * reference + tone(1700.0, 0.01)
    for other in (estimate + tone(16000.0, 0.3), estimate + tone(20000.0, 0.3)):
        for before, after in (
            (
                leak_db(estimate, reference, 8000.0).overall,
                leak_db(other, reference, 8000.0).overall,
            ),
            (mel_distance(estimate, reference, 8000.0), mel_distance(other, reference, 8000.0)),
            *(
                (
                    metric(estimate, reference, 0.0, FULL_HZ, 8000.0),
                    metric(other, reference, 0.0, FULL_HZ, 8000.0),
                )
                for metric in (log_spectral_distance, over_suppressed_share)
            ),
        ):
            torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-3)
    assert leak_db(estimate + tone(16000.0, 0.3), reference, FULL_HZ).overall > 5


def test_over_suppressed_share_counts_the_bins_that_were_muted() -> None:
    reference = noise(SAMPLE_RATE)
    spectrum = torch.fft.rfft(reference.double())
    frequencies_hz = torch.fft.rfftfreq(SAMPLE_RATE, 1 / SAMPLE_RATE)
    # Muted by 10 dB from 6 to 12 kHz, a quarter of all bins.
    quiet_band = spectrum * torch.where(
        (frequencies_hz > 6000) & (frequencies_hz < 12000), 0.316, 1.0
    )
    estimate = torch.fft.irfft(quiet_band)
    share = over_suppressed_share(estimate, reference, 0.0, FULL_HZ, FULL_HZ)
    assert share.item() == pytest.approx(0.25, abs=0.01)
    within = over_suppressed_share(estimate, reference, 6000.0, 12000.0, FULL_HZ)
    assert within.item() == pytest.approx(1.0, abs=0.02)
    deeper = over_suppressed_share(estimate, reference, 0.0, FULL_HZ, FULL_HZ, drop_db=20)
    assert deeper.item() < 0.01


def test_mel_distance_of_a_gain_is_the_gain_and_equals_the_training_term() -> None:
    reference = noise(2, SAMPLE_RATE) * torch.tensor([[0.1], [0.01]])
    distance = mel_distance(2 * reference, reference, FULL_HZ)
    torch.testing.assert_close(distance, torch.full((2,), 6.02).double(), atol=0.02, rtol=0)

    estimate = reference + 0.05 * noise(2, SAMPLE_RATE, seed=1)
    bandwidth_hz = torch.tensor([24000.0, 9000.0])
    for i in range(2):
        term = ReconstructionLoss()(
            estimate[i][None, None], reference[i][None, None], bandwidth_hz[i : i + 1]
        )["mel"]
        metric = mel_distance(estimate, reference, bandwidth_hz)[i]
        assert metric.item() == pytest.approx(term.item() * 20 / math.log(10), rel=1e-3)


def test_leak_is_the_energy_of_a_tone_in_a_silent_band() -> None:
    reference = tone(1000.0, 0.1)
    leak = leak_db(reference + tone(6000.0, 0.01), reference, FULL_HZ).overall
    assert leak.item() == pytest.approx(-20.0, abs=0.1)
    # The window's own skirts, and a recording's own noise, are nobody's leak.
    assert leak_db(reference, reference, FULL_HZ).overall.item() == -100


def test_what_sounds_in_a_pause_is_told_by_its_level_however_long_it_is() -> None:
    voice = noise(SAMPLE_RATE)
    for seconds in (0.5, 2.0):
        pause = torch.zeros(round(seconds * SAMPLE_RATE))
        reference = torch.cat([voice, pause, voice])
        estimate = torch.cat([voice, 0.01 * noise(len(pause), seed=1), voice])
        assert leak_db(estimate, reference, FULL_HZ).pauses.item() == pytest.approx(-40, abs=0.3)
        assert leak_db(reference, reference, FULL_HZ).pauses.item() == -100
    assert leak_db(2 * voice, voice, FULL_HZ).pauses.isnan()


@pytest.mark.parametrize(
    "metric",
    [
        lambda e, r: si_sdr(e, r),
        lambda e, r: log_spectral_distance(e, r, 0.0, 8000.0, torch.full(r.shape[:-1], 9000.0)),
        lambda e, r: over_suppressed_share(e, r, 0.0, FULL_HZ, FULL_HZ),
        lambda e, r: mel_distance(e, r, FULL_HZ),
        lambda e, r: leak_db(e, r, FULL_HZ).overall,
    ],
)
def test_each_pair_is_measured_alone_and_silence_is_nan(metric) -> None:  # type: ignore[no-untyped-def]
    reference = torch.stack([noise(9600) * 0.1, torch.zeros(9600), noise(9600, seed=2)])
    estimate = reference + 0.02 * noise(3, 9600, seed=3)
    together = metric(estimate, reference)
    assert together.shape == (3,)
    assert together.isnan().tolist() == [False, True, False]
    for i in (0, 2):
        alone = metric(estimate[i], reference[i])
        assert alone.shape == ()
        torch.testing.assert_close(alone, together[i], rtol=1e-9, atol=0)


def test_spectral_metrics_work_on_a_single_sample() -> None:
    reference = torch.tensor([0.1])
    assert log_spectral_distance(reference, reference, 0.0, FULL_HZ, FULL_HZ).item() == 0
    assert mel_distance(reference, reference, FULL_HZ).item() == 0


def test_perceptual_metrics_fall_with_noise_and_leave_out_silence() -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    reference = voice()
    noisy = reference + 0.03 * noise(len(reference))
    batch = torch.stack([reference, noisy, reference])
    references = torch.stack([reference, reference, torch.zeros_like(reference)])
    for metric, best in ((pesq_wideband, 4.6), (estoi, 1.0)):
        same, worse, silent = metric(batch, references)
        assert same.item() == pytest.approx(best, abs=0.05)
        assert worse < same - 0.1
        assert silent.isnan()
        assert metric(reference[:2000], reference[:2000]).isnan()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "pystoi", None)
    with pytest.raises(MissingPackageError, match=r"pesq.*timbre\[eval\]"):
        pesq_wideband(voice(), voice())
    with pytest.raises(MissingPackageError, match=r"pystoi.*timbre\[eval\]"):
        estoi(voice(), voice())


def test_perceptual_metrics_leave_out_a_silent_or_broken_estimate() -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    reference = voice()
    estimates = [torch.zeros_like(reference), reference * math.nan, reference * math.inf]
    for metric in (pesq_wideband, estoi):
        assert metric(torch.stack(estimates), reference.expand(3, -1)).isnan().all()


def test_the_gap_names_each_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    assert perceptual_gap() is None
    monkeypatch.setitem(sys.modules, "pystoi", None)
    assert "pystoi" in (gap := perceptual_gap() or "") and "timbre[eval]" in gap
    assert "pesq" not in gap
