import math
from itertools import combinations

import pytest
import torch
from torch import Tensor

from tests.help.plain_gan import PlainDiscriminators
from timbre.audio import HOP
from timbre.models.discriminators import (
    PRESETS,
    DiscriminatorConfig,
    Discriminators,
    build_discriminator,
)
from timbre.train.losses.adversarial import discriminator_loss, generator_losses
from timbre.train.losses.reconstruction import view_of


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def light() -> Discriminators:
    torch.manual_seed(0)
    return build_discriminator(DiscriminatorConfig("light"))


@pytest.mark.parametrize("preset", ["light", "full"])
def test_one_judgement_per_period_and_per_resolution(preset: str) -> None:
    judgements = build_discriminator(DiscriminatorConfig(preset)).judge(noise(2, 1, 6000))  # type: ignore[arg-type]
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


@pytest.mark.parametrize(("preset", "count"), [("light", 162_132), ("full", 3_991_240)])
def test_presets_have_the_stated_numbers_of_parameters(preset: str, count: int) -> None:
    discriminators = build_discriminator(DiscriminatorConfig(preset))  # type: ignore[arg-type]
    assert sum(p.numel() for p in discriminators.parameters()) == count


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
        views = [*map(view_of(clean, full), (clean, restored))]
        with torch.no_grad():
            return [j.logits for j in discriminators.judge(torch.cat(views))]

    plain = logits(clean, restored)
    for logits_at_level, common in zip(plain, logits(0.2 * clean, 0.2 * restored), strict=True):
        torch.testing.assert_close(common, logits_at_level, atol=1e-5, rtol=1e-4)
    for logits_at_level, quieter in zip(plain, logits(clean, 0.5 * restored), strict=True):
        torch.testing.assert_close(quieter[0], logits_at_level[0], atol=1e-5, rtol=1e-4)
        assert (quieter[1] - logits_at_level[1]).abs().max() > 1e-3


def test_spectra_are_float32_under_autocast() -> None:
    discriminators, waves = light(), noise(1, 1, 6000)
    with torch.no_grad():
        exact, plain = discriminators.judge(waves), discriminators.planes(waves)
        with torch.autocast("cpu", torch.bfloat16):
            half_precision, planes = discriminators.judge(waves), discriminators.planes(waves)
    for before, inside in zip(plain, planes, strict=True):
        assert inside.dtype == torch.float32
        assert torch.equal(inside, before)
    for a, b in zip(exact, half_precision, strict=True):
        assert b.logits.dtype == torch.bfloat16  # the convolutions do run in it
        assert (a.logits - b.logits).abs().max() < 0.05


@pytest.mark.parametrize("samples", [1, 10, 2297])
def test_any_length_is_judged(samples: int) -> None:
    for judgement in light().judge(noise(1, 1, samples)):
        assert judgement.logits.numel() > 0
        assert judgement.logits.isfinite().all()


def test_a_joint_batch_equals_two_separate_ones() -> None:
    real, fake = noise(2, 1, 4800), noise(2, 1, 4800, seed=1)
    discriminators = light()
    together = discriminators.judge(torch.cat([real, fake]))
    for joint, first, second in zip(
        together, discriminators.judge(real), discriminators.judge(fake), strict=True
    ):
        torch.testing.assert_close(joint.logits, torch.cat([first.logits, second.logits]))
        for features, a, b in zip(joint.features, first.features, second.features, strict=True):
            torch.testing.assert_close(features, torch.cat([a, b]), atol=1e-5, rtol=1e-4)


def test_a_period_discriminator_compares_samples_one_period_apart() -> None:
    waves = noise(1, 1, 200).requires_grad_()
    logits = light().judge(waves)[3].logits  # of every seventh sample
    (gradient,) = torch.autograd.grad(logits[0, 0, 0, 3], waves)
    indices = gradient[0, 0].nonzero().flatten()
    assert len(indices) > 3
    assert set((indices % 7).tolist()) == {3}


def test_quiet_highs_are_seen_beside_loud_lows() -> None:
    # The change lies 40 dB below the voice, as do the highs of speech.
    time = torch.arange(24000) / 48000
    lows = 1.4 * torch.sin(2 * torch.pi * 200 * time)[None, None]
    highs = 0.014 * torch.sin(2 * torch.pi * 10000 * time)[None, None]
    discriminators = light()
    judgements = [discriminators.judge(waves) for waves in (lows + highs, lows)]
    for with_highs, without in [*zip(*judgements, strict=True)][-3:]:
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
    view = view_of(clean, torch.tensor([24000.0]))
    planes = discriminators.planes(torch.cat([view(clean), view(restored)]))
    judgements = discriminators([plane.detach() for plane in planes])
    torch.stack(generator_losses(discriminators, judgements, planes)).sum().backward()
    assert restored.grad is not None and restored.grad.isfinite().all()
    discriminator_loss(judgements)[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminators.parameters())


def test_the_light_discriminator_learns_to_tell_noise_from_a_tone() -> None:
    discriminators = light()
    optimizer = torch.optim.Adam(discriminators.parameters(), lr=2e-3)
    time = torch.arange(6000) / 48000
    real = torch.sin(2 * torch.pi * 440 * time).expand(2, 1, -1)
    for step in range(20):
        fake = noise(2, 1, 6000, seed=step)
        loss, _ = discriminator_loss(discriminators.judge(torch.cat([real, fake])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.25


@pytest.mark.parametrize("preset", ["light", "full"])
def test_state_dicts_and_fresh_weights_are_those_of_single_convolutions(preset: str) -> None:
    """States from before weights were stacked load, and new states say nothing of stacks."""
    torch.manual_seed(0)
    plain = PlainDiscriminators(PRESETS[preset])
    torch.manual_seed(0)
    ours = build_discriminator(DiscriminatorConfig(preset))  # type: ignore[arg-type]
    expected, state = plain.state_dict(), ours.state_dict()
    assert (*state,) == (*expected,)
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)
    new_state = {name: tensor + 0.01 * noise(*tensor.shape) for name, tensor in expected.items()}
    ours.load_state_dict(new_state)
    plain.load_state_dict(new_state)
    waves = noise(2, 1, 6000)
    for one, other in zip(ours.judge(waves), plain(waves), strict=True):
        torch.testing.assert_close(one.logits, other.logits, atol=1e-5, rtol=1e-4)
        for a, b in zip(one.features, other.features, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    with pytest.raises(RuntimeError, match="Missing key"):
        ours.load_state_dict({name: new_state[name] for name in [*new_state][1:]})
