"""Limits of the spectral generator: they hold for any weights, and leave the identity alone."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.help.moved_generators import noise
from timbre.config import from_tree
from timbre.errors import ConfigError
from timbre.models.generator import GeneratorConfig, build_generator
from timbre.models.limits import (
    PAUSE_FRAMES,
    PAUSE_LIFT_DB,
    Spectrum,
    falling_lift,
    lift_of,
    limit_change,
    limit_lift,
)
from timbre.models.spectral import SpectralGenerator

CAUSAL = pytest.mark.parametrize("causal", [False, True])
# Of all weights, as training leaves them and far beyond. The head alone can take still larger ones,
# whose outputs' squares leave float32.
SCALES = pytest.mark.parametrize("scale", [0.05, 1.0, 1e3, 1e25])
LIFTS = pytest.mark.parametrize("max_lift_db", [1.0, 6.0, 12.0, 24.0])
SAMPLES = 9600


def limited_generator(
    causal: bool = False,
    max_lift_db: float | None = 12.0,
    limit_change: bool = True,
    scale: float | None = None,
    limit_pauses: bool = False,
) -> SpectralGenerator:
    """A generator at its identity start, or with all weights moved by random ones of a scale."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        "spectral", "tiny", causal, True, max_lift_db, limit_change, limit_pauses
    )
    generator = build_generator(config)
    assert isinstance(generator, SpectralGenerator)
    for index, (name, parameter) in enumerate(generator.named_parameters()):
        if scale is not None:
            head = name.startswith(("head.", "noisy_path.share."))
            step = scale if head else min(scale, 1e3)
            parameter.data += step * noise(*parameter.shape, seed=index)
    return generator


class Record(NamedTuple):
    """Spectra (frames, bins), complex, and levels around their bins, (frames, bins)."""

    denoised: Tensor
    restored: Tensor
    near: Tensor
    removal: Tensor


def record(
    generator: SpectralGenerator, degraded: Tensor, noisy: Tensor, autocast: bool = False
) -> Record:
    """Run a clip and record the change that the generator turns into sound."""
    changes = []

    class Recorder(nn.Module):
        def analyse(self, waves: Tensor) -> Spectrum:
            return fourier.analyse(waves)

        def synthesise(self, real: Tensor, imaginary: Tensor, samples: int) -> Tensor:
            changes.append(torch.complex(real, imaginary))
            return fourier.synthesise(real, imaginary, samples)

    fourier = generator.fourier
    generator.fourier = Recorder()  # type: ignore[assignment]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        generator(degraded, noisy)
    generator.fourier = fourier
    denoised, noisy_spectrum = (torch.complex(*fourier.analyse(wave)) for wave in (degraded, noisy))
    near, removal = (
        generator.near(s.abs().square())[0] for s in (denoised, noisy_spectrum - denoised)
    )
    return Record(denoised[0], (denoised + changes[0])[0], near, removal)


def denoised_voice() -> tuple[Tensor, Tensor]:
    """A clip with a hole, faint and loud parts; and full-band noise over it, ``(1, 1, samples)``."""
    spectrum = torch.fft.rfft(0.1 * noise(SAMPLES))
    spectrum[1000:2000] = 0
    envelope = torch.ones(SAMPLES)
    envelope[2400:4800], envelope[4800:6000] = 0.0, 1e-4
    degraded = torch.fft.irfft(spectrum) * envelope
    return degraded[None, None], (degraded + 0.3 * noise(SAMPLES, seed=1))[None, None]


@CAUSAL
@SCALES
@LIFTS
def test_no_bin_rises_above_the_limit_whatever_the_weights(
    causal: bool, scale: float, max_lift_db: float
) -> None:
    for limit_change_too, limit_pauses in ((False, False), (True, False), (False, True)):
        generator = limited_generator(causal, max_lift_db, limit_change_too, scale, limit_pauses)
        denoised, restored, near, _ = record(generator, *denoised_voice())
        most = 10 ** (max_lift_db / 20) * torch.maximum(near, denoised.abs())
        assert (restored.abs() <= most * (1 + 1e-5) + 1e-7).all()
        # It does not hold by chance: without the limit these weights go beyond.
        generator.max_lift_db = None
        free = record(generator, *denoised_voice()).restored.abs()
        assert limit_change_too or (free > 1.01 * most).any()


@CAUSAL
@SCALES
def test_no_bin_changes_by_more_than_what_was_removed_whatever_the_weights(
    causal: bool, scale: float
) -> None:
    for max_lift_db in (None, 1.0, 12.0):  # the lift's limit behind it must not enlarge the change
        generator = limited_generator(causal, max_lift_db, True, scale)
        denoised, restored, _, removal = record(generator, *denoised_voice())
        assert ((restored - denoised).abs() <= removal * (1 + 1e-5) + 1e-6 * denoised.abs()).all()


@CAUSAL
@SCALES
def test_in_pauses_no_bin_rises_by_more_than_a_decibel_whatever_the_weights(
    causal: bool, scale: float
) -> None:
    speech, pause = 24_000, 24_000
    envelope = torch.cat((torch.ones(speech), torch.full((pause,), 1e-2)))  # 40 dB down
    degraded = 0.1 * noise(1, 1, speech + pause) * envelope
    noisy = degraded + 0.3 * noise(1, 1, speech + pause, seed=1)
    generator = limited_generator(causal, 12.0, False, scale, limit_pauses=True)
    denoised, restored, near, _ = record(generator, degraded, noisy)
    rise = restored.abs() / torch.maximum(near, denoised.abs())
    within = speech // 480 + PAUSE_FRAMES + 2, (speech + pause) // 480 - 2
    assert rise[slice(*within)].max() <= 10 ** (PAUSE_LIFT_DB / 20) * (1 + 1e-5)
    # Speech keeps the full lift up to its last frames, and these weights reach for it.
    assert rise[: speech // 480 - PAUSE_FRAMES].max() > 10 ** (6 / 20)


def test_the_lift_falls_evenly_from_speech_to_pause() -> None:
    levels_db = torch.tensor([0.0, -18.0, -23.0, -28.0, -60.0, -torch.inf])
    power = (10 ** (levels_db / 10))[None, :, None]
    lift = falling_lift(13.0, power, torch.ones_like(power))
    decibels = 20 * torch.log10(torch.as_tensor(lift.factor))[0, :, 0]
    torch.testing.assert_close(decibels, torch.tensor([13.0, 13.0, 7.0, 1.0, 1.0, 1.0]))
    assert (torch.as_tensor(lift.knee) * torch.as_tensor(lift.factor) > 1).all()


@CAUSAL
def test_what_was_clean_stays_as_it_is_whatever_the_weights(causal: bool) -> None:
    generator, clean = limited_generator(causal, 12.0, True, scale=1e3), 0.1 * noise(1, 1, SAMPLES)
    with torch.no_grad():
        restored = generator(clean, clean * (1 + 1e-3))  # the denoiser took a thousandth
    assert (restored - clean).norm() <= 1.1e-3 * clean.norm()


@CAUSAL
@LIFTS
@pytest.mark.parametrize("level", [1e-4, 1e-2, 1.0])
def test_full_band_noise_alone_comes_back_no_louder_than_the_limit(
    causal: bool, max_lift_db: float, level: float
) -> None:
    """This holds for the sound too: the energy of all frames bounds that of the waveform."""
    generator = limited_generator(causal, max_lift_db, False, scale=1e3)
    noisy = level * noise(1, 1, 24_000)
    degraded = 1e-3 * noisy  # 60 dB of it removed
    with torch.no_grad():
        rise_db = 20 * torch.log10(generator(degraded, noisy).norm() / degraded.norm())
    # 3 dB: a bin counts its own level or that of its neighbours, whichever is higher.
    assert rise_db <= max_lift_db + 3.0


@CAUSAL
@LIFTS
def test_with_limits_every_generator_still_starts_as_the_identity_exactly(
    causal: bool, max_lift_db: float
) -> None:
    degraded, noisy = denoised_voice()
    single = torch.zeros_like(degraded)
    single[..., 4000] = 1.0  # a click and a tone stand out of their neighbourhood
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(SAMPLES) / 48_000)[None, None]
    for generator in (
        limited_generator(causal, max_lift_db, limit_pauses=fall) for fall in (False, True)
    ):
        for wave in (degraded, single, tone, torch.zeros_like(degraded), 1e-12 * degraded):
            for second in (noisy, wave, torch.zeros_like(wave), None):
                with torch.no_grad():
                    assert torch.equal(generator(wave, second), wave)


def test_a_change_well_within_the_limits_keeps_its_bits() -> None:
    degraded, noisy = denoised_voice()
    without, with_limits = (
        limited_generator(False, lift, lift is not None, scale=1e-6) for lift in (None, 12.0)
    )
    with torch.no_grad():
        restored = without(degraded, noisy)
        assert not torch.equal(restored, degraded)
        assert torch.equal(with_limits(degraded, noisy)[..., :2000], restored[..., :2000])


@CAUSAL
def test_rows_without_a_noisy_side_have_no_limit_of_the_change(causal: bool) -> None:
    with_limit, without = (
        limited_generator(causal, 12.0, limit, scale=0.05) for limit in (True, False)
    )
    degraded, noisy = denoised_voice()
    batch, sides = torch.cat((degraded, degraded)), torch.cat((noisy, torch.zeros_like(noisy)))
    with torch.no_grad():
        assert torch.equal(with_limit(degraded), without(degraded))
        assert torch.equal(with_limit(degraded, torch.zeros_like(noisy)), with_limit(degraded))
        rows = with_limit(batch, sides)
        torch.testing.assert_close(rows[1:], without(degraded), atol=1e-6, rtol=0)
        torch.testing.assert_close(rows[:1], with_limit(degraded, noisy), atol=1e-6, rtol=0)
        assert (with_limit(degraded, noisy) - without(degraded, noisy)).abs().max() > 1e-3


@CAUSAL
@pytest.mark.parametrize("scale", [0.05, 1.0, 1e3])
def test_gradients_are_finite_everywhere(causal: bool, scale: float) -> None:
    degraded, noisy = denoised_voice()
    silence, faint = torch.zeros_like(noisy), 1e-30 * noisy
    for max_lift_db in (1.0, 12.0):
        generator = limited_generator(causal, max_lift_db, True, scale, limit_pauses=True)
        for sides in ((degraded, noisy), (degraded, degraded), (silence, noisy), (noisy, silence)):
            for first, second in (sides, (sides[0], faint), (faint, sides[1])):
                first, second = (wave.clone().requires_grad_() for wave in (first, second))
                generator.zero_grad()
                (generator(first, second) - 0.1 * noise(1, 1, SAMPLES)).square().sum().backward()
                for name, tensor in [
                    ("degraded", first), ("noisy", second), *generator.named_parameters()
                ]:  # fmt: skip
                    assert tensor.grad is not None, name
                    assert tensor.grad.isfinite().all(), name


def test_a_bin_far_above_its_limit_is_still_pulled() -> None:
    """Whatever the limit, the gradient says in which direction the bin should turn and shrink."""
    for ratio in (0.4, 0.6, 1.0, 3.0, 100.0):
        change = (
            torch.full((1, 1, 1), ratio).requires_grad_(),
            torch.zeros(1, 1, 1).requires_grad_(),
        )
        result = limit_change(
            change, torch.ones(1, 1, 1), (torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
        )
        (result[0] + result[1]).sum().backward()
        for part in change:
            assert part.grad is not None
            assert part.grad.item() > 0


@LIFTS
def test_the_limit_of_the_lift_is_smooth_and_rises(max_lift_db: float) -> None:
    magnitudes = torch.linspace(0, 100, 200_001).double()[None, None]
    zeros, ones = torch.zeros_like(magnitudes), torch.ones_like(magnitudes)
    change = limit_lift((magnitudes - 1, zeros), (ones, zeros), ones, lift_of(max_lift_db))
    restored = 1 + change[0][0, 0]
    slopes = restored.diff() / magnitudes[0, 0].diff()
    assert (slopes > 0).all()
    assert slopes.diff().abs().max() < 2e-2  # no kink, no step
    assert restored.max() < 10 ** (max_lift_db / 20)
    assert restored.max() > 0.99 * 10 ** (max_lift_db / 20)


@CAUSAL
def test_limits_reach_no_further_than_the_stated_latency_and_history(causal: bool) -> None:
    with_limits, without = (
        limited_generator(causal, lift, lift is not None) for lift in (None, 12.0)
    )
    assert with_limits.latency_samples == without.latency_samples
    assert with_limits.history_samples == without.history_samples
    generator = limited_generator(causal, 6.0, True, scale=0.05, limit_pauses=True).double()
    start = 24_000 + 479
    inputs = [0.1 * noise(1, 1, 48_000, seed=seed).double() for seed in (0, 1)]
    for side in (0, 1):
        others = [wave.clone() for wave in inputs]
        others[side][..., start:] *= 3.0
        with torch.no_grad():
            difference = (generator(*others) - generator(*inputs)).abs()[0, 0]
        assert difference[: start - generator.latency_samples].max() == 0
        assert difference[start:].max() > 0


@CAUSAL
def test_scaling_both_inputs_scales_the_output_under_limits(causal: bool) -> None:
    generator = limited_generator(causal, 6.0, True, scale=0.05, limit_pauses=True)
    degraded, noisy = denoised_voice()
    with torch.no_grad():
        loud, quiet = generator(degraded, noisy), generator(0.03 * degraded, 0.03 * noisy)
    torch.testing.assert_close(quiet, 0.03 * loud, atol=1e-6, rtol=1e-3)


def test_limits_stay_float32_under_autocast() -> None:
    generator = limited_generator(False, 6.0, True, scale=0.05)
    denoised, noisy = denoised_voice()
    spectra = record(generator, denoised, noisy, autocast=True)
    most = 10 ** (6.0 / 20) * torch.maximum(spectra.near, spectra.denoised.abs())
    assert (spectra.restored.abs() <= most * (1 + 1e-5) + 1e-7).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "wave", "max_lift_db": 12}, "the wave generator adds samples; expected name: spectral"),
        ({"name": "wave", "limit_change": True, "noisy_input": True}, "the wave generator adds samples"),
        ({"limit_change": True}, "expected noisy_input: true, or limit_change: false"),
        ({"limit_pauses": True}, "expected a number of dB as max_lift_db, or limit_pauses: false"),
        ({"max_lift_db": 0.5}, "max_lift_db: expected greater than or equal to 1, got 0.5"),
        ({"max_lift_db": "much"}, "max_lift_db: expected a valid number, got 'much'"),
    ],
)  # fmt: skip
def test_limits_that_cannot_be_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        from_tree(GeneratorConfig, keys, "train.yaml")
    assert message in str(refusal.value)


def test_the_metadata_of_old_checkpoints_mean_no_limits() -> None:
    tree = {"name": "spectral", "size": "tiny", "causal": True, "noisy_input": True}
    generator = build_generator(from_tree(GeneratorConfig, tree, "old.safetensors"))
    assert isinstance(generator, SpectralGenerator)
    assert generator.max_lift_db is None
    assert not generator.limits_change
