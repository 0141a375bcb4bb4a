import math

import pytest
import torch
from torchaudio.transforms import MelScale

from timbre.audio import SAMPLE_RATE
from timbre.audio.spectra import (
    RESOLUTIONS,
    FramedFourier,
    LogMel,
    Stft,
    active_bins,
    bin_power,
    compression_factor,
    pair_gain,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency_hz: float, samples: int = SAMPLE_RATE) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency_hz / SAMPLE_RATE * torch.arange(samples).double())


@pytest.mark.parametrize("samples", [1, 2, 255, 256, 1000])
def test_stft_equals_a_direct_fourier_sum_at_any_length(samples: int) -> None:
    stft = Stft(256, 64)
    wave = noise(1, samples).double()
    spectrum = stft(wave)[0]
    with_ends = torch.cat([torch.zeros(128), wave[0], torch.zeros(256)]).double()
    turns = torch.arange(129.0).double()[:, None] * torch.arange(256) * (2 * math.pi / 256)
    for frame in range(samples // 64 + 1):
        piece = with_ends[64 * frame : 64 * frame + 256] * stft.window.double()
        expected = torch.complex(turns.cos() @ piece, -turns.sin() @ piece)
        torch.testing.assert_close(spectrum[:, frame], expected, atol=1e-5, rtol=0)
    assert spectrum.shape == (129, samples // 64 + 1)


@pytest.mark.parametrize("n_fft", [256, 542, 2048])
def test_unit_white_noise_has_unit_power_in_every_bin_at_any_resolution(n_fft: int) -> None:
    power = bin_power(Stft(n_fft, n_fft // 4)(noise(8, SAMPLE_RATE)))[..., 8:-8]
    per_bin = power.mean(dim=(0, 2))[1:-1]
    assert per_bin.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (per_bin - 1).abs().max().item() < 0.5


def test_stft_stays_in_float32_under_autocast_and_for_half_precision_input() -> None:
    wave = noise(1, 4800)
    with torch.autocast("cpu", torch.bfloat16):
        inside = Stft(960, 480)(wave)
    torch.testing.assert_close(inside, Stft(960, 480)(wave), atol=0, rtol=0)
    assert Stft(960, 480)(wave.bfloat16()).dtype == torch.complex64
    assert Stft(960, 480)(wave.double()).dtype == torch.complex128


def test_a_tone_falls_into_the_bin_of_its_frequency() -> None:
    stft = Stft(2048, 512)
    peak = stft(tone(3000.0)[None]).abs().mean(dim=2).argmax()
    assert stft.frequencies_hz[peak].item() == pytest.approx(3000.0, abs=SAMPLE_RATE / 4096)


def test_counted_bins_lie_within_their_own_pairs_bandwidth() -> None:
    stft = Stft(480, 120)  # bins of 100 Hz
    mask = stft.counted(torch.tensor([500.0, 24000.0, 0.0]))
    assert mask.shape == (3, 241, 1)
    assert mask[0, :, 0].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert mask.sum(dim=(1, 2)).tolist() == [6, 241, 1]


@pytest.mark.parametrize("samples", [1, 239, 240, 241, 480, 5000])
def test_framed_fourier_undoes_itself_at_any_length(samples: int) -> None:
    fourier = FramedFourier(240)
    wave = noise(2, 1, samples)
    spectrum = fourier.analyse(wave)
    assert spectrum[0].shape == (2, math.ceil(samples / 240) + 1, 241)
    restored = fourier.synthesise(*spectrum, samples=samples)
    torch.testing.assert_close(restored, wave, atol=1e-5, rtol=0)


def test_framed_fourier_equals_an_fft_of_windowed_frames() -> None:
    wave = noise(1, 1, 4800)
    real, imaginary = FramedFourier(480).analyse(wave)
    window = torch.sin((torch.arange(960) + 0.5) * math.pi / 960) / 480**0.5
    for frame in (1, 4):
        expected = torch.fft.rfft(wave[0, 0, 480 * (frame - 1) : 480 * (frame + 1)] * window)
        torch.testing.assert_close(real[0, frame], expected.real, atol=1e-5, rtol=0)
        torch.testing.assert_close(imaginary[0, frame], expected.imag, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("n_fft", "bands"), RESOLUTIONS)
def test_mel_bands_equal_torchaudios_and_none_is_empty(n_fft: int, bands: int) -> None:
    magnitude = noise(1, n_fft // 2 + 1, 3).abs()
    log_mel = LogMel(n_fft, bands)
    mel = log_mel(magnitude).exp() - 1e-3
    reference = MelScale(
        bands, SAMPLE_RATE, 0.0, SAMPLE_RATE / 2, n_fft // 2 + 1, "slaney", "slaney"
    )
    torch.testing.assert_close(
        mel, reference(magnitude) * SAMPLE_RATE / n_fft, rtol=1e-4, atol=1e-5
    )
    assert (log_mel.filters > 0).any(dim=1).all()
    assert (log_mel.filters.sum(dim=1).median() - 1).abs() < 0.1


def test_a_mel_band_counts_only_if_it_ends_below_the_bandwidth() -> None:
    log_mel = LogMel(1024, 80)
    bandwidth_hz = 7000.0
    mask = log_mel.counted(torch.tensor([bandwidth_hz]))[0, :, 0]
    reaches_above = log_mel.filters[:, Stft(1024, 256).frequencies_hz > bandwidth_hz].any(dim=1)
    assert torch.equal(mask, ~reaches_above)
    assert 0 < mask.sum() < 80


def test_pair_gain_brings_a_clip_to_unit_level_but_does_not_raise_silence_without_end() -> None:
    clean = torch.stack([noise(1, 4800) * 0.1, torch.zeros(1, 4800)])
    gain = pair_gain(clean)
    assert gain.shape == (2, 1, 1)
    assert (clean[0] * gain[0]).square().mean().item() == pytest.approx(1.0, abs=1e-4)
    assert gain[1].item() == pytest.approx(1000.0)


def test_compression_takes_magnitudes_to_the_power_of_three_tenths() -> None:
    magnitude = torch.tensor([0.1, 1.0, 30.0])
    result = magnitude * compression_factor(magnitude.square(), 1e-4)
    torch.testing.assert_close(result, magnitude**0.3, rtol=1e-5, atol=0)
    assert compression_factor(torch.zeros(1), 1e-3).item() == pytest.approx(1e-3**-0.7, rel=1e-4)


def test_active_bins_lie_within_60_db_of_the_highest_counted_bin() -> None:
    power = torch.tensor([[[1e9], [1.0], [1.1e-6], [0.9e-6], [0.0]]])
    mask = torch.tensor([False, True, True, True, True])[None, :, None]
    assert active_bins(power, mask)[0, :, 0].tolist() == [False, True, True, False, False]
    assert not active_bins(torch.zeros_like(power), mask).any()
