import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from timbre.audio import HOP
from timbre.models.discriminators import (
    PRESETS,
    DiscriminatorConfig,
    Discriminators,
    PeriodDiscriminator,
    build_discriminator,
)
from timbre.train.losses.adversarial import (
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
)
from timbre.train.losses.reconstruction import view


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def light() -> Discriminators:
    torch.manual_seed(0)
    return build_discriminator(DiscriminatorConfig("light"))


@pytest.mark.parametrize("preset", ["light", "full"])
def test_one_judgement_per_period_and_per_resolution(preset: str) -> None:
    judgements = build_discriminator(DiscriminatorConfig(preset))(noise(2, 1, 6000))  # type: ignore[arg-type]
    sizes = PRESETS[preset]
    assert len(judgements) == len(sizes.periods) + len(sizes.n_ffts)
    for period, judgement in zip(sizes.periods, judgements, strict=False):
        assert judgement.logits.shape[:2] == (2, 1)
        assert judgement.logits.shape[3] == period
        assert [f.shape[1] for f in judgement.features] == list(sizes.period_channels)
    for n_fft, judgement in zip(sizes.n_ffts, judgements[len(sizes.periods) :], strict=True):
        hop = n_fft // sizes.frames_per_window
        assert judgement.logits.shape[:3] == (2, 1, 6000 // hop + 1)
        assert len(judgement.features) == 5 * 5
        assert all(f.shape[1] == sizes.spectral_channels for f in judgement.features)


@pytest.mark.parametrize(("preset", "stated"), [("light", 162_132), ("full", 3_991_240)])
def test_presets_have_the_stated_numbers_of_parameters(preset: str, stated: int) -> None:
    discriminators = build_discriminator(DiscriminatorConfig(preset))  # type: ignore[arg-type]
    assert sum(p.numel() for p in discriminators.parameters()) == stated


@pytest.mark.parametrize("preset", ["light", "full"])
def test_fft_sizes_are_inharmonic_to_each_other_and_to_the_generators_hop(preset: str) -> None:
    sizes = PRESETS[preset]
    hops = tuple(n_fft // sizes.frames_per_window for n_fft in sizes.n_ffts)
    for lengths in ((*sizes.n_ffts, HOP), (*hops, HOP)):
        for first, second in combinations(lengths, 2):
            # No ratio of small numbers, which would favour some positions in time.
            assert math.lcm(first, second) > 20 * min(first, second)


def test_all_sides_of_a_pair_share_one_gain() -> None:
    """A level difference within a pair is judged, a level common to both is not."""
    discriminators, full = light(), torch.tensor([24000.0])
    clean, restored = 0.1 * noise(1, 1, 6000), 0.1 * noise(1, 1, 6000, seed=1)

    def logits(clean: Tensor, restored: Tensor) -> list[Tensor]:
        views = [view(side, clean, full) for side in (clean, restored)]
        with torch.no_grad():
            return [j.logits for j in discriminators(torch.cat(views))]

    plain = logits(clean, restored)
    for judged, common in zip(plain, logits(0.2 * clean, 0.2 * restored), strict=True):
        torch.testing.assert_close(common, judged, atol=1e-5, rtol=1e-4)
    for judged, quieter in zip(plain, logits(clean, 0.5 * restored), strict=True):
        torch.testing.assert_close(quieter[0], judged[0], atol=1e-5, rtol=1e-4)
        assert (quieter[1] - judged[1]).abs().max() > 1e-3


def test_spectra_are_float32_under_autocast() -> None:
    discriminators, waves = light(), noise(1, 1, 6000)
    planes: list[Tensor] = []
    for spectral in discriminators.spectra:
        spectral.bands[0].register_forward_pre_hook(lambda _, given: planes.append(given[0]))
    with torch.no_grad():
        exact = discriminators(waves)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = discriminators(waves)
    count = len(discriminators.spectra)
    for before, inside in zip(planes[:count], planes[count:], strict=True):
        assert inside.dtype == torch.float32
        assert torch.equal(inside, before)
    for a, b in zip(exact, rounded, strict=True):
        assert b.logits.dtype == torch.bfloat16  # the convolutions do run in it
        assert (a.logits - b.logits).abs().max() < 0.05


@pytest.mark.parametrize("samples", [1, 10, 2297])
def test_any_length_is_judged(samples: int) -> None:
    for judgement in light()(noise(1, 1, samples)):
        assert judgement.logits.numel() > 0
        assert judgement.logits.isfinite().all()


def test_a_joint_batch_equals_two_separate_ones() -> None:
    real, fake = noise(2, 1, 4800), noise(2, 1, 4800, seed=1)
    discriminators = light()
    together = discriminators(torch.cat([real, fake]))
    for joint, first, second in zip(
        together, discriminators(real), discriminators(fake), strict=True
    ):
        torch.testing.assert_close(joint.logits, torch.cat([first.logits, second.logits]))
        for features, a, b in zip(joint.features, first.features, second.features, strict=True):
            torch.testing.assert_close(features, torch.cat([a, b]), atol=1e-5, rtol=1e-4)


def test_a_period_discriminator_compares_samples_one_period_apart() -> None:
    torch.manual_seed(0)
    discriminator = PeriodDiscriminator(5, (4, 8))
    waves = noise(1, 1, 200).requires_grad_()
    logits = discriminator(waves).logits
    (gradient,) = torch.autograd.grad(logits[0, 0, 10, 3], waves)
    reached = gradient[0, 0].nonzero().flatten()
    assert len(reached) > 3
    assert set((reached % 5).tolist()) == {3}


def test_quiet_highs_are_seen_beside_loud_lows() -> None:
    # The change lies 40 dB below the voice, as do the highs of speech.
    time = torch.arange(24000) / 48000
    lows = 1.4 * torch.sin(2 * torch.pi * 200 * time)[None, None]
    highs = 0.014 * torch.sin(2 * torch.pi * 10000 * time)[None, None]
    discriminators = light()
    for spectral in discriminators.spectra:
        with_highs, without = spectral(lows + highs), spectral(lows)
        relative = max(
            ((a - b).norm() / b.norm()).item()
            for a, b in zip(with_highs.features, without.features, strict=True)
        )
        assert relative > 0.1


@pytest.mark.parametrize("restored_level", [0.0, 1e-20, 0.1])
@pytest.mark.parametrize("clean_level", [0.0, 0.1])
def test_silence_gives_finite_gradients(restored_level: float, clean_level: float) -> None:
    discriminators = light()
    restored = (restored_level * noise(1, 1, 4800)).requires_grad_()
    clean = clean_level * noise(1, 1, 4800, seed=1)
    full = torch.tensor([24000.0])
    views = [view(side, clean, full) for side in (clean, restored)]
    real, fake = (discriminators(view) for view in views)
    (adversarial_loss(fake) + feature_matching_loss(real, fake)).backward()
    assert restored.grad is not None and restored.grad.isfinite().all()
    discriminators.zero_grad()
    discriminator_loss(*(discriminators(view.detach()) for view in views)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminators.parameters())


def test_the_light_discriminator_learns_to_tell_noise_from_a_tone() -> None:
    discriminators = light()
    optimizer = torch.optim.Adam(discriminators.parameters(), lr=2e-3)
    time = torch.arange(6000) / 48000
    real = torch.sin(2 * torch.pi * 440 * time).expand(2, 1, -1)
    for step in range(20):
        fake = noise(2, 1, 6000, seed=step)
        loss = discriminator_loss(discriminators(real), discriminators(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.25


def test_weight_norm_is_on_every_convolution() -> None:
    for name, module in light().named_modules():
        if isinstance(module, torch.nn.Conv2d):
            assert hasattr(module, "parametrizations"), name
