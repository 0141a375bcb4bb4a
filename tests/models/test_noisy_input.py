"""The second input: the denoiser's input, which a generator may use and can do without."""

import pytest
import torch
from torch import Tensor

from tests.help.moved_generators import NAMES, build, noise
from timbre.train.losses.reconstruction import ReconstructionLoss

BOTH = pytest.mark.parametrize("name", NAMES)
CAUSAL = pytest.mark.parametrize("causal", [False, True])


@BOTH
@CAUSAL
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_without_it_the_output_equals_that_of_a_silent_one_exactly(
    name: str, causal: bool, size: str
) -> None:
    generator = build(name, size, causal, moved=True, noisy_input=True)
    degraded = 0.1 * noise(2, 1, 5003)
    with torch.no_grad():
        without = generator(degraded)
        assert torch.equal(generator(degraded, torch.zeros_like(degraded)), without)
        assert (generator(degraded, 0.1 * noise(2, 1, 5003, seed=1)) - without).abs().max() > 1e-3


@BOTH
def test_a_row_of_zeros_in_a_batch_equals_a_clip_without_it(name: str) -> None:
    generator = build(name, moved=True, noisy_input=True)
    degraded, noisy = 0.1 * noise(3, 1, 4000), 0.1 * noise(3, 1, 4000, seed=1)
    mask = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    with torch.no_grad():
        with_gap, whole = generator(degraded, mask * noisy), generator(degraded, noisy)
        torch.testing.assert_close(with_gap[1:2], generator(degraded[1:2]), atol=1e-6, rtol=0)
    torch.testing.assert_close(with_gap[::2], whole[::2], atol=1e-6, rtol=0)


@BOTH
@CAUSAL
@pytest.mark.parametrize("samples", [1, 2, 479, 480, 481, 5003])
def test_with_it_every_generator_still_starts_as_the_identity(
    name: str, causal: bool, samples: int
) -> None:
    degraded, noisy = 0.2 * noise(2, 1, samples), 3.0 * noise(2, 1, samples, seed=1)
    with torch.no_grad():
        restored = build(name, causal=causal, noisy_input=True)(degraded, noisy)
    assert restored.shape == degraded.shape
    assert (restored - degraded).abs().max() <= 1e-4


def test_scaling_both_inputs_scales_the_spectral_generators_output() -> None:
    generator = build("spectral", moved=True, noisy_input=True)
    degraded, noisy = 0.1 * noise(1, 1, 9600), 0.1 * noise(1, 1, 9600, seed=1)
    with torch.no_grad():
        loud, quiet = generator(degraded, noisy), generator(0.03 * degraded, 0.03 * noisy)
    assert (loud - generator(degraded)).abs().max() > 0.01
    torch.testing.assert_close(quiet, 0.03 * loud, atol=1e-6, rtol=1e-3)


@BOTH
@pytest.mark.parametrize("size", ["small", "base"])
def test_it_costs_few_parameters(name: str, size: str) -> None:
    without, with_it = (
        sum(p.numel() for p in build(name, size, noisy_input=noisy_input).parameters())
        for noisy_input in (False, True)
    )
    assert without < with_it <= 1.065 * without


@BOTH
def test_a_generator_built_without_it_refuses_it(name: str) -> None:
    degraded = noise(1, 1, 480)
    with pytest.raises(ValueError, match="built with noisy_input false"):
        build(name)(degraded, degraded)


@BOTH
@pytest.mark.parametrize("shape", [(1, 1, 481), (1, 1, 480), (2, 2, 480)])
def test_one_of_another_shape_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected that of degraded, \(2, 1, 480\)"):
        build(name, noisy_input=True)(noise(2, 1, 480), noise(*shape))


@BOTH
def test_all_its_parameters_learn(name: str) -> None:
    generator = build(name, noisy_input=True)
    optimizer = torch.optim.SGD(generator.parameters(), lr=1e-3)
    degraded, noisy, clean = (0.1 * noise(1, 1, 9600, seed=i) for i in range(3))
    for _ in range(2):  # the spectral body's first gradient is zero, behind a head of zeros
        optimizer.zero_grad()
        (generator(degraded, noisy) - clean).square().sum().backward()
        optimizer.step()
    for parameter_name, parameter in generator.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@BOTH
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_digital_silence_on_either_side_gives_finite_gradients(name: str, level: float) -> None:
    generator = build(name, moved=True, noisy_input=True)
    degraded = torch.full((1, 1, 4800), 0.0).requires_grad_()
    noisy = (level * noise(1, 1, 4800)).requires_grad_()
    for inputs in ((degraded, noisy), (noisy, degraded)):
        (generator(*inputs) - 0.1 * noise(1, 1, 4800)).square().sum().backward()
    for tensor in (degraded, noisy, *generator.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@BOTH
def test_output_stays_float32_under_autocast(name: str) -> None:
    generator = build(name, moved=True, noisy_input=True)
    degraded, noisy = 0.1 * noise(1, 1, 9600), 0.1 * noise(1, 1, 9600, seed=1)
    with torch.no_grad():
        exact = generator(degraded, noisy)
        with torch.autocast("cpu", torch.bfloat16):
            half_precision = generator(degraded, noisy)
            silent = generator(degraded, torch.zeros_like(noisy))
            assert torch.equal(silent, generator(degraded))
    assert half_precision.dtype == torch.float32
    assert 0 < (half_precision - exact).norm() < 0.1 * (exact - degraded).norm()


@BOTH
def test_it_brings_back_what_the_denoiser_cut(name: str) -> None:
    """The degraded side has lost a band. Thirty steps bring the output nearer with the input."""
    clean = 0.05 * noise(1, 1, 6000)
    spectrum = torch.fft.rfft(clean)
    spectrum[..., 500:1500] = 0  # 4 to 12 kHz
    degraded, noisy = torch.fft.irfft(spectrum), clean + 0.01 * noise(1, 1, 6000, seed=1)
    loss, full = ReconstructionLoss(), torch.tensor([24000.0])

    def after_training(second: Tensor | None) -> float:
        generator = build(name, noisy_input=True)
        optimizer = torch.optim.Adam(generator.parameters(), lr=3e-3, betas=(0.8, 0.99))
        for _ in range(30):
            optimizer.zero_grad()
            total = sum(loss(generator(degraded, second), clean, full).values())
            total.backward()
            optimizer.step()
        return total.item()

    assert after_training(noisy) < 0.7 * after_training(None)
