import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from timbre.audio.spectra import RESOLUTIONS, Stft
from timbre.train.losses.reconstruction import (
    LossConfig,
    ReconstructionLoss,
    view_of,
)

FULL = torch.tensor([24000.0])
SPECTRAL = ("mel", "spectrum", "silence")
ALL = (*SPECTRAL, "waveform")
DIFFERENCES = ("over_attenuation", "leak")
EVERY_TERM = LossConfig(perceptual=1.0, over_attenuation=1.0, leak=1.0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency_hz: float, samples: int = 24000) -> Tensor:
    """``(1, 1, samples)``, fading in and out, so that it stays within its band."""
    time = torch.arange(samples).double() / 48000
    wave = torch.hann_window(samples).double() * torch.sin(2 * math.pi * frequency_hz * time)
    return wave.float()[None, None]


def test_equal_signals_have_no_loss() -> None:
    clean = 0.1 * noise(2, 1, 9600)
    for name, term in ReconstructionLoss()(clean, clean, FULL.expand(2)).items():
        assert term.item() == pytest.approx(0.0, abs=1e-6), name


def test_a_gain_has_a_closed_form_in_every_term() -> None:
    clean = 0.1 * noise(1, 1, 48000)
    terms = ReconstructionLoss()(2 * clean, clean, FULL)
    assert terms["mel"].item() == pytest.approx(math.log(2), rel=0.005)
    level_one = clean / clean.square().mean().sqrt()
    assert terms["waveform"].item() == pytest.approx(level_one.abs().mean().item(), rel=1e-4)
    # Magnitude and complex parts are both (2^0.3 - 1) |X|^0.3 where nothing is near the floor.
    spectra = torch.stack(
        [Stft(n, n // 4)(level_one[0]).abs().pow(0.3).mean() for n, _ in RESOLUTIONS]
    )
    expected = (2**0.3 - 1) * spectra.mean().item()
    assert terms["spectrum"].item() == pytest.approx(expected, rel=0.01)


def test_a_quiet_pair_counts_like_a_loud_one() -> None:
    clean, restored = 0.1 * noise(1, 1, 9600), 0.1 * noise(1, 1, 9600, seed=1)
    loss = ReconstructionLoss()
    loud, quiet = loss(restored, clean, FULL), loss(0.05 * restored, 0.05 * clean, FULL)
    for name in loud:
        assert quiet[name].item() == pytest.approx(loud[name].item(), rel=1e-4), name


def narrow_pair() -> tuple[Tensor, Tensor]:
    """Restored and clean noise that ends at 16 kHz, with an error between them."""
    spectra = torch.fft.rfft(0.1 * noise(2, 1, 24000))
    spectra[..., 8000:] = 0
    clean, error = torch.fft.irfft(spectra)
    return 0.7 * clean[None] + 0.1 * error[None], clean[None]


@pytest.mark.parametrize("frequency_hz", [16050.0, 16500.0, 20000.0])
def test_a_tone_above_the_bandwidth_changes_no_term(frequency_hz: float) -> None:
    (restored, clean), loss = narrow_pair(), ReconstructionLoss()
    above = restored + 0.2 * tone(frequency_hz)
    before, after = (loss(x, clean, torch.tensor([16000.0])) for x in (restored, above))
    for name in ALL:
        assert after[name].item() == pytest.approx(before[name].item(), rel=3e-5, abs=1e-7), name
    # A wider pair's terms do see it.
    before, after = (loss(x, clean, FULL) for x in (restored, above))
    for name in ALL:
        assert after[name] > before[name] + 1e-3, name


def test_no_gradient_asks_for_more_or_less_above_the_bandwidth() -> None:
    (restored, clean), loss = narrow_pair(), ReconstructionLoss()
    restored = restored.requires_grad_()
    narrow, wide = (loss(restored, clean, torch.tensor([hz])) for hz in (16000.0, 24000.0))
    for name in ALL:
        shares = []
        for terms in (narrow, wide):
            (gradient,) = torch.autograd.grad(terms[name], restored, retain_graph=True)
            # Without the ends, at which the segment's cut is itself sound of every frequency.
            power = torch.fft.rfft(gradient * torch.hann_window(24000)).abs().square()[0, 0]
            shares.append((power[8100:].sum() / power.sum()).item())
        assert shares[0] < 1e-6, name
        assert shares[1] > 1e-4, name


@pytest.mark.parametrize("bandwidth_hz", [9000.0, 0.0])
def test_the_gradient_above_the_bandwidth_is_exactly_zero(
    bandwidth_hz: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    spectra: list[tuple[Tensor, Tensor]] = []
    plain = Stft.gradient

    def keep(stft: Stft, of_spectra: Tensor, samples: int) -> Tensor:
        spectra.append((stft.frequencies_hz, of_spectra))
        return plain(stft, of_spectra, samples)

    monkeypatch.setattr(Stft, "gradient", keep)
    restored = (0.1 * noise(1, 1, 9600)).requires_grad_()
    clean = 0.1 * noise(1, 1, 9600, seed=1)
    terms = ReconstructionLoss()(restored, clean, torch.tensor([bandwidth_hz]))
    sum(terms[name] for name in SPECTRAL).backward()
    assert len(spectra) == len(RESOLUTIONS)
    for frequencies_hz, gradient in spectra:
        assert (gradient[:, :, frequencies_hz > bandwidth_hz] == 0).all()
        if bandwidth_hz:
            assert (gradient[:, :, frequencies_hz <= bandwidth_hz - 500] != 0).any()


def test_the_loss_of_a_batch_is_the_mean_of_its_pairs_losses() -> None:
    clean, restored = 0.1 * noise(3, 1, 9600), 0.1 * noise(3, 1, 9600, seed=1)
    bandwidth_hz = torch.tensor([24000.0, 8000.0, 4000.0])
    loss = ReconstructionLoss()
    together = loss(restored, clean, bandwidth_hz)
    alone = [loss(restored[i, None], clean[i, None], bandwidth_hz[i, None]) for i in range(3)]
    for name, term in together.items():
        assert term.item() == pytest.approx(sum(a[name].item() for a in alone) / 3, rel=1e-5), name


@pytest.mark.parametrize("restored_level", [0.0, 1e-20, 0.1])
@pytest.mark.parametrize("clean_level", [0.0, 0.1])
def test_silence_gives_finite_and_bounded_gradients(
    restored_level: float, clean_level: float
) -> None:
    restored = (restored_level * noise(1, 1, 4800)).requires_grad_()
    loss = ReconstructionLoss(LossConfig(over_attenuation=1.0))
    terms = loss(restored, clean_level * noise(1, 1, 4800, seed=1), FULL)
    for name, term in terms.items():
        (gradient,) = torch.autograd.grad(term, restored, retain_graph=True)
        assert term.isfinite(), name
        assert gradient.isfinite().all(), name
        # Of a mean over 4800 samples at a gain of at most 1000, in which floors allow 126.
        assert gradient.abs().max() < 1000, name


def test_silence_term_sees_sound_only_where_the_target_is_silent() -> None:
    clean = torch.cat([tone(1000.0), torch.zeros(1, 1, 24000)], dim=2)
    hiss = 0.01 * noise(1, 1, 24000)
    during = clean + torch.cat([0.5 * tone(1000.0), torch.zeros(1, 1, 24000)], dim=2)
    after = clean + torch.cat([torch.zeros(1, 1, 24000), hiss], dim=2)
    loss = ReconstructionLoss()
    assert loss(after, clean, FULL)["silence"] > 0.05
    assert loss(during, clean, FULL)["silence"] < 0.01
    # One-sided: less sound than the target's own is no leak.
    assert loss(0.5 * clean, clean, FULL)["silence"] == 0


def test_above_the_bandwidth_the_target_may_be_the_denoisers_output() -> None:
    clean, degraded = 0.1 * noise(2, 1, 48000), 0.1 * noise(2, 1, 48000, seed=1)
    bandwidth_hz = torch.tensor([8000.0, 24000.0])
    loss = ReconstructionLoss(LossConfig(above_bandwidth="degraded"))
    target, counted_hz = loss.target(clean, degraded, bandwidth_hz)
    assert counted_hz.tolist() == [24000.0, 24000.0]
    # In the middle, where no end is near.
    window = torch.hann_window(48000)
    spectra = [torch.fft.rfft(side[0, 0] * window) for side in (target, clean, degraded)]
    torch.testing.assert_close(spectra[0][:7500], spectra[1][:7500], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(spectra[0][8100:], spectra[2][8100:], atol=1e-3, rtol=1e-3)
    assert torch.equal(target[1], clean[1])
    assert loss(target, target, counted_hz)["mel"] == 0
    assert loss(target + 0.1 * tone(12000.0, 48000), target, counted_hz)["mel"] > 1e-3


def test_by_default_the_target_is_the_clean_side_itself() -> None:
    clean, degraded = noise(1, 1, 480), noise(1, 1, 480, seed=1)
    bandwidth_hz = torch.tensor([8000.0])
    target, counted_hz = ReconstructionLoss().target(clean, degraded, bandwidth_hz)
    assert target is clean
    assert counted_hz is bandwidth_hz


def test_fewer_resolutions_give_the_mean_of_theirs() -> None:
    clean, restored = 0.1 * noise(1, 1, 9600), 0.1 * noise(1, 1, 9600, seed=1)

    def terms(*resolutions: int) -> dict[str, Tensor]:
        return ReconstructionLoss(LossConfig(resolutions=resolutions))(restored, clean, FULL)

    both, long, short = terms(2048, 512), terms(2048), terms(512)
    for name in SPECTRAL:
        mean = (long[name] + short[name]) / 2
        torch.testing.assert_close(both[name], mean)
    assert both["waveform"] == long["waveform"]


@pytest.mark.parametrize("resolutions", [(), (500,), (512, 512)])
def test_resolutions_that_there_are_not_are_refused(resolutions: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match=r"loss.resolutions .* \[2048, 1024, 512, 256\]"):
        LossConfig(resolutions=resolutions)


def test_a_wrong_phase_costs_spectrum_and_waveform_but_not_mel() -> None:
    clean = 0.1 * noise(1, 1, 24000)
    terms = ReconstructionLoss()(-clean, clean, FULL)
    assert terms["mel"].item() == pytest.approx(0, abs=1e-6)
    assert terms["spectrum"] > 0.3
    assert terms["waveform"] > 1


def test_terms_are_float32_and_equal_under_autocast_and_for_half_precision_input() -> None:
    clean, restored = 0.1 * noise(1, 1, 4800), 0.1 * noise(1, 1, 4800, seed=1)
    loss = ReconstructionLoss()
    plain = loss(restored, clean, FULL)
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(restored, clean, FULL)
    for name, term in plain.items():
        assert inside[name].dtype == torch.float32
        torch.testing.assert_close(inside[name], term, atol=0, rtol=0)
    assert loss(restored.bfloat16(), clean, FULL)["mel"].dtype == torch.float32


def test_both_sides_are_transformed_together_once_a_resolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[int, int]] = []
    plain = Stft.by_frame

    def count(stft: Stft, waves: Tensor) -> Tensor:
        calls.append((stft.n_fft, len(waves)))
        return plain(stft, waves)

    restored, clean = 0.1 * noise(2, 1, 9600).requires_grad_(), 0.1 * noise(2, 1, 9600, seed=1)
    loss = ReconstructionLoss()
    monkeypatch.setattr(Stft, "by_frame", count)
    sum(loss(restored, clean, FULL.expand(2)).values()).backward()
    assert calls == [(n_fft, 4) for n_fft, _ in RESOLUTIONS]


def test_windows_and_mel_filters_are_made_once_and_move_with_the_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loss = ReconstructionLoss()
    for kind in ("window", "filters"):
        assert sum(name.endswith(kind) for name, _ in loss.named_buffers()) == len(RESOLUTIONS)
    assert not loss.state_dict()  # nor do they swell checkpoints
    assert {buffer.device.type for buffer in loss.to("meta").buffers()} == {"meta"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    loss, clean = ReconstructionLoss(), 0.1 * noise(1, 1, 9600)
    monkeypatch.setattr(torch, "hann_window", refuse)
    monkeypatch.setattr("timbre.audio.spectra.melscale_fbanks", refuse)
    loss(clean, clean, FULL)


def test_weights_are_named_like_the_terms_and_frozen() -> None:
    clean = noise(1, 1, 480)
    weights = LossConfig()
    for name in ReconstructionLoss(EVERY_TERM)(clean, clean, FULL):
        assert getattr(weights, name) >= 0
    with pytest.raises(ValidationError):
        LossConfig(pitch=1.0)  # type: ignore[call-arg]


def test_losses_and_discriminators_see_a_pair_at_one_gain_and_within_its_bandwidth() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 1, 24000, generator=generator) * torch.tensor([0.01, 0.2])[:, None, None]
    bandwidth_hz = torch.tensor([24000.0, 8000.0])
    real, fake = map(view_of(clean, bandwidth_hz), (clean, 0.5 * clean))
    torch.testing.assert_close(fake, 0.5 * real, atol=1e-5, rtol=1e-4)
    assert real[0].square().mean().sqrt().item() == pytest.approx(1.0, rel=1e-3)
    spectrum = torch.fft.rfft(real[1, 0]).abs()
    assert spectrum[4100:].max() < 0.02 * spectrum[:3500].mean()  # bins of 2 Hz
