from pathlib import Path

import pytest
import torch
from torch import Tensor

from timbre.losses import ReconstructionLoss
from timbre.models import GeneratorConfig, build_generator
from timbre.models.wave import Convolution, TransposedConvolution

NAMES = ("spectral", "wave")
SHAPES = ((1, 1, 1), (1, 1, 480), (3, 1, 7777))
BOTH = pytest.mark.parametrize("name", NAMES)
Generator = torch.nn.Module


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(name: str, size: str = "tiny", causal: bool = False, moved: bool = False) -> Generator:
    """A generator, ``moved`` away from its identity start."""
    torch.manual_seed(0)
    generator = build_generator(GeneratorConfig(name, size, causal))  # type: ignore[arg-type]
    if moved:
        for index, parameter in enumerate(generator.parameters()):
            parameter.data += 0.05 * noise(*parameter.shape, seed=index)
    return generator


@BOTH
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize("causal", [False, True])
def test_every_generator_starts_as_the_identity(name: str, size: str, causal: bool) -> None:
    degraded = 0.2 * noise(2, 1, 4900)
    with torch.no_grad():
        restored = build(name, size, causal)(degraded)
    assert (restored - degraded).abs().max() <= 1e-4
    assert restored.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "size", "low", "high"),
    [
        ("spectral", "tiny", 0.3e6, 0.6e6),
        ("spectral", "small", 3.5e6, 4.5e6),
        ("spectral", "base", 8e6, 18e6),
        ("wave", "tiny", 0.3e6, 0.6e6),
        ("wave", "small", 3.5e6, 4.5e6),
        ("wave", "base", 8e6, 18e6),
    ],
)
def test_sizes_have_the_stated_numbers_of_parameters(
    name: str, size: str, low: float, high: float
) -> None:
    assert low <= sum(p.numel() for p in build(name, size).parameters()) <= high


@BOTH
@pytest.mark.parametrize("samples", [1, 2, 479, 480, 481, 5003])
def test_output_is_as_long_as_the_input_and_finite(name: str, samples: int) -> None:
    with torch.no_grad():
        for degraded in (0.1 * noise(3, 1, samples), torch.zeros(1, 1, samples)):
            restored = build(name, moved=True)(degraded)
            assert restored.shape == degraded.shape
            assert restored.isfinite().all()


@BOTH
def test_a_batch_equals_its_clips_one_by_one(name: str) -> None:
    generator, degraded = build(name, moved=True), 0.1 * noise(3, 1, 4000)
    with torch.no_grad():
        together = generator(degraded)
        for i in range(3):
            torch.testing.assert_close(
                generator(degraded[i : i + 1])[0], together[i], atol=1e-5, rtol=0
            )


@BOTH
def test_a_causal_generator_depends_on_no_input_beyond_its_latency(name: str) -> None:
    generator = build(name, causal=True, moved=True).double()
    samples, first_changed = 48000, 24000 + 479
    degraded = 0.1 * noise(1, 1, samples).double()
    changed = degraded.clone()
    changed[..., first_changed:] = 3.0 * noise(1, 1, samples - first_changed, seed=1)
    with torch.no_grad():
        difference = (generator(changed) - generator(degraded)).abs()[0, 0]
    horizon = first_changed - generator.latency_samples
    assert difference[:horizon].max() == 0
    # The stated latency is the true one, not a safe guess: the next output does depend.
    assert difference[horizon] > 0


@BOTH
def test_a_generator_that_may_look_ahead_does_so_and_within_its_latency(name: str) -> None:
    generator, causal = build(name, moved=True).double(), build(name, causal=True)
    samples, first_changed = 48000, 24000 + 479
    degraded = 0.1 * noise(1, 1, samples).double()
    changed = degraded.clone()
    changed[..., first_changed:] = 3.0 * noise(1, 1, samples - first_changed, seed=1)
    with torch.no_grad():
        difference = (generator(changed) - generator(degraded)).abs()[0, 0]
    horizon = first_changed - generator.latency_samples
    assert difference[:horizon].max() == 0
    assert difference[horizon : horizon + 3000].max() > 0
    assert difference[: first_changed - causal.latency_samples].max() > 0


@BOTH
@pytest.mark.parametrize("causal", [False, True])
def test_all_parameters_learn(name: str, causal: bool) -> None:
    generator = build(name, causal=causal)
    optimizer = torch.optim.SGD(generator.parameters(), lr=1e-3)
    degraded, clean = 0.1 * noise(1, 1, 9600), 0.1 * noise(1, 1, 9600, seed=1)
    for _ in range(2):  # the spectral body's first gradient is zero, behind a head of zeros
        optimizer.zero_grad()
        (generator(degraded) - clean).square().sum().backward()
        optimizer.step()
    for parameter_name, parameter in generator.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@BOTH
@pytest.mark.parametrize("fill", [0.0, 1e-30])
def test_silence_gives_finite_gradients(name: str, fill: float) -> None:
    generator = build(name, moved=True)
    degraded = torch.full((1, 1, 4800), fill).requires_grad_()
    (generator(degraded) - 0.1 * noise(1, 1, 4800)).square().sum().backward()
    assert degraded.grad is not None
    assert degraded.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())


@BOTH
def test_thirty_steps_bring_a_damaged_signal_nearer(name: str) -> None:
    generator, loss = build(name), ReconstructionLoss()
    time = torch.arange(12000) / 48000
    clean = sum(torch.sin(2 * torch.pi * 150 * k * time) / k for k in range(1, 80)) * 0.03
    spectrum = torch.fft.rfft(clean)
    spectrum[1000:] *= 0.2  # from 4 kHz on
    degraded, clean = torch.fft.irfft(spectrum)[None, None], clean[None, None]
    optimizer = torch.optim.Adam(generator.parameters(), lr=3e-3, betas=(0.8, 0.99))

    def total() -> Tensor:
        return sum(loss(generator(degraded), clean, torch.tensor([24000.0])).values())

    with torch.no_grad():
        before = total().item()
    for _ in range(30):
        optimizer.zero_grad()
        total().backward()
        optimizer.step()
    with torch.no_grad():
        assert total().item() < 0.85 * before


def test_the_spectral_generator_keeps_the_level_of_its_input() -> None:
    generator, degraded = build("spectral", moved=True), 0.1 * noise(1, 1, 9600)
    with torch.no_grad():
        loud, quiet = generator(degraded), generator(0.03 * degraded)
    assert (loud - degraded).abs().max() > 0.01
    torch.testing.assert_close(quiet, 0.03 * loud, atol=1e-6, rtol=1e-3)


def test_the_spectral_generator_can_raise_a_bin_by_twenty_decibels_and_mute_it() -> None:
    generator, degraded = build("spectral"), 0.1 * noise(1, 1, 9600)
    bins = generator.head.out_features // 4
    for log_gain, expected in ((2.42, 10.0), (-10.0, 0.008)):
        torch.nn.init.constant_(generator.head.bias[:bins], log_gain)
        with torch.no_grad():
            restored = generator(degraded)
        assert (restored.norm() / degraded.norm()).item() == pytest.approx(expected, rel=0.2)


def test_the_additive_term_reaches_bins_that_the_denoiser_zeroed() -> None:
    generator = build("spectral")
    spectrum = torch.fft.rfft(0.1 * noise(9600))
    frequencies_hz = torch.fft.rfftfreq(9600, 1 / 48000)
    hole = (frequencies_hz > 6000) & (frequencies_hz < 8000)
    degraded = torch.fft.irfft(spectrum * ~hole)[None, None]
    bins = generator.head.out_features // 4
    generator.head.bias.data[2 * bins :] = noise(2 * bins)
    with torch.no_grad():
        filled = torch.fft.rfft(generator(degraded)[0, 0])
        silence = generator(torch.zeros(1, 1, 9600))
    assert filled[hole].abs().mean() > 0.1 * spectrum[hole].abs().mean()
    assert silence.abs().max() < 1e-6


@BOTH
def test_spectra_and_output_stay_float32_under_autocast(name: str) -> None:
    generator, degraded = build(name, moved=True), 0.1 * noise(1, 1, 9600)
    untouched = build(name)
    with torch.no_grad():
        exact = generator(degraded)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = generator(degraded)
            assert (untouched(degraded) - degraded).abs().max() <= 1e-4
    assert rounded.dtype == torch.float32
    change = (exact - degraded).norm()
    assert 0 < (rounded - exact).norm() < 0.1 * change


@pytest.mark.parametrize("causal", [False, True])
def test_removing_weight_norm_leaves_the_output_equal(causal: bool) -> None:
    generator, degraded = build("wave", causal=causal, moved=True), 0.1 * noise(1, 1, 4800)
    with torch.no_grad():
        before = generator(degraded)
        generator.remove_weight_norm()
        torch.testing.assert_close(generator(degraded), before, atol=1e-6, rtol=0)
    assert not any("parametrizations" in name for name in generator.state_dict())


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("excess", [0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("causal", [False, True])
def test_transposed_convolution_makes_exactly_stride_outputs_per_input(
    stride: int, excess: int, causal: bool
) -> None:
    layer = TransposedConvolution((2, 3), stride + excess, stride, causal)
    for length in (1, 2, 9):
        hidden = noise(2, 2, length)
        output = layer(hidden)
        assert output.shape == (2, 3, length * stride)
        # The trim takes whole outputs from the ends of the plain layer's, and leaves the rest.
        plain = layer.convolution(hidden)
        torch.testing.assert_close(
            output, plain[..., layer.ahead : plain.shape[-1] - (excess - layer.ahead)]
        )
        assert layer.ahead == (0 if causal else excess // 2)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (3, 4), (5, 6)])
def test_transposed_convolution_refuses_a_kernel_that_leaves_gaps(kernel: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"kernel {kernel} is shorter than stride {stride}"):
        TransposedConvolution((1, 1), kernel, stride, causal=False)


@pytest.mark.parametrize("kernel", [4, 5, 7, 8])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 3), (4, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_convolution_looks_exactly_as_far_ahead_as_it_says(
    kernel: int, stride: int, dilation: int, causal: bool
) -> None:
    layer = Convolution((1, 1), kernel, causal, stride, dilation)
    hidden = noise(1, 1, 80).requires_grad_()
    output = layer(hidden)
    assert output.shape == (1, 1, 80 // stride)
    index = 40 // stride
    (gradient,) = torch.autograd.grad(output[0, 0, index], hidden)
    assert gradient[0, 0].nonzero().max().item() == index * stride + layer.ahead
    if causal:
        assert layer.ahead == stride - 1


@BOTH
def test_exported_to_onnx_it_gives_the_same_output_at_any_length(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    generator = build(name, causal=name == "wave", moved=True).eval()
    if name == "wave":
        generator.remove_weight_norm()
    dynamic = {0: torch.export.Dim("batch"), 2: torch.export.Dim("samples")}
    program = torch.onnx.export(
        generator, (noise(2, 1, 4800),), dynamo=True, dynamic_shapes=(dynamic,), verbose=False
    )
    program.save(tmp_path / "generator.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "generator.onnx")
    for degraded in (*(0.1 * noise(*s) for s in SHAPES), torch.zeros(1, 1, 1000)):
        (exported,) = session.run(None, {session.get_inputs()[0].name: degraded.numpy()})
        with torch.no_grad():
            expected = generator(degraded)
        torch.testing.assert_close(torch.from_numpy(exported), expected, atol=1e-4, rtol=0)
