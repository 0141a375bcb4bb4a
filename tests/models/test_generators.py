import pytest
import torch
from torch import Tensor

from tests.help.moved_generators import NAMES, build, noise
from timbre.train.losses.reconstruction import ReconstructionLoss

SHAPES = ((1, 1, 1), (1, 1, 480), (3, 1, 7777))
LENGTHS = (1, 2, 479, 480, 481, 959, 12345)
BOTH = pytest.mark.parametrize("name", NAMES)
CAUSAL = pytest.mark.parametrize("causal", [False, True])


@BOTH
@CAUSAL
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_every_generator_starts_as_the_identity_at_any_length(
    name: str, size: str, causal: bool
) -> None:
    generator = build(name, size, causal)
    for samples in LENGTHS:
        degraded = 0.2 * noise(2, 1, samples)
        with torch.no_grad():
            restored = generator(degraded)
        assert restored.shape == degraded.shape
        assert (restored - degraded).abs().max() <= 1e-4
        assert restored.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("spectral", "tiny", 319_876),
        ("spectral", "small", 4_041_604),
        ("spectral", "base", 14_372_740),
        ("wave", "tiny", 446_969),
        ("wave", "small", 3_633_969),
        ("wave", "base", 14_489_185),
    ],
)
def test_sizes_have_the_stated_numbers_of_parameters(name: str, size: str, count: int) -> None:
    assert sum(p.numel() for p in build(name, size).parameters()) == count
    low, high = {"tiny": (0.3e6, 0.5e6), "small": (3.5e6, 4.5e6), "base": (8e6, 18e6)}[size]
    assert low <= count <= high


@BOTH
@pytest.mark.parametrize("samples", LENGTHS)
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


def changed_by_the_future(generator: torch.nn.Module, start: int, side: int) -> Tensor:
    """How much each output moves when one input changes from a sample on; in float64."""
    inputs = [0.1 * noise(1, 1, 48000, seed=seed).double() for seed in (0, 1)]
    others = [wave.clone() for wave in inputs]
    others[side][..., start:] = 3.0 * noise(1, 1, 48000 - start, seed=2)
    with torch.no_grad():
        return (generator.double()(*others) - generator(*inputs)).abs()[0, 0]


@BOTH
@pytest.mark.parametrize("side", [0, 1])
def test_a_causal_generator_depends_on_no_input_beyond_its_latency(name: str, side: int) -> None:
    generator = build(name, causal=True, moved=True, noisy_input=True)
    for start in (24479, 24480, 24723):  # the last of a hop, the first, one within
        difference = changed_by_the_future(generator, start, side)
        horizon = start - generator.latency_samples
        assert difference[:horizon].max() == 0
        # The stated latency is the true one, not a safe guess: the next output does depend.
        if start == 24479:
            assert difference[horizon] > 0
    # Less than two frames: nothing but the transform's own windows.
    assert generator.latency_samples <= 959


@BOTH
@pytest.mark.parametrize("side", [0, 1])
def test_a_generator_that_may_look_ahead_does_so_and_within_its_latency(
    name: str, side: int
) -> None:
    generator, causal = build(name, moved=True, noisy_input=True), build(name, causal=True)
    start = 24000 + 479
    difference = changed_by_the_future(generator, start, side)
    horizon = start - generator.latency_samples
    assert difference[:horizon].max() == 0
    assert difference[horizon : horizon + 3000].max() > 0
    assert difference[: start - causal.latency_samples].max() > 0


@BOTH
@CAUSAL
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_gradients_reach_exactly_as_far_ahead_as_the_latency_says(
    name: str, causal: bool, size: str
) -> None:
    generator = build(name, size, causal, moved=True, noisy_input=True).double()
    generator.requires_grad_(False)
    inputs = [0.1 * noise(1, 1, 30000, seed=seed).double().requires_grad_() for seed in (0, 1)]
    restored = generator(*inputs)
    reaches = []
    for index in (9600, 9601, 9840, 10079):  # the first is the first of a hop
        gradients = torch.autograd.grad(restored[0, 0, index], inputs, retain_graph=True)
        reaches += [g[0, 0].nonzero().max().item() - index for g in gradients]
    assert max(reaches) <= generator.latency_samples
    if name == "spectral":
        assert reaches[:2] == [generator.latency_samples] * 2
    else:  # a bound; whoever waits for it waits for no more than a twentieth too long
        assert max(reaches) >= 0.95 * generator.latency_samples - 1


@BOTH
@CAUSAL
def test_gradients_reach_exactly_as_far_back_as_the_history_says(name: str, causal: bool) -> None:
    generator = build(name, "tiny", causal, moved=True, noisy_input=True).double()
    generator.requires_grad_(False)
    samples = 144_000 if name == "spectral" else 48_000
    inputs = [0.1 * noise(1, 1, samples, seed=seed).double().requires_grad_() for seed in (0, 1)]
    index = samples - 24_000 - 1  # the last of a hop
    gradients = torch.autograd.grad(generator(*inputs)[0, 0, index], inputs)
    reaches = [index - g[0, 0].nonzero().min().item() for g in gradients]
    assert max(reaches) <= generator.history_samples
    if name == "spectral":
        assert reaches[0] == generator.history_samples
    else:  # a bound, and nearly reached
        assert max(reaches) >= 0.95 * generator.history_samples - 1


@BOTH
@CAUSAL
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
        output = torch.fft.rfft(generator(degraded)[0, 0])
        silence = generator(torch.zeros(1, 1, 9600))
    assert output[hole].abs().mean() > 0.1 * spectrum[hole].abs().mean()
    assert silence.abs().max() < 1e-6


@BOTH
def test_spectra_and_output_stay_float32_under_autocast(name: str) -> None:
    generator, degraded = build(name, moved=True), 0.1 * noise(1, 1, 9600)
    original = build(name)
    with torch.no_grad():
        exact = generator(degraded)
        with torch.autocast("cpu", torch.bfloat16):
            half_precision = generator(degraded)
            assert (original(degraded) - degraded).abs().max() <= 1e-4
    assert half_precision.dtype == torch.float32
    change = (exact - degraded).norm()
    assert 0 < (half_precision - exact).norm() < 0.1 * change


@CAUSAL
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_removing_weight_norm_leaves_the_output_equal_bit_for_bit(causal: bool, size: str) -> None:
    generator = build("wave", size, causal, moved=True, noisy_input=True)
    degraded, noisy = 0.1 * noise(1, 1, 4800), 0.1 * noise(1, 1, 4800, seed=1)
    layers = [m for m in generator.modules() if torch.nn.utils.parametrize.is_parametrized(m)]
    assert len(layers) > 30
    with torch.no_grad():
        before = generator(degraded, noisy)
        generator.remove_weight_norm()
        assert torch.equal(generator(degraded, noisy), before)
    assert not any("parametrizations" in name for name in generator.state_dict())
