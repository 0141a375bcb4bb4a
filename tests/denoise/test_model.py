from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.help.denoise_inputs import noisy_voice, si_sdr_db, voice
from timbre.denoise import DeepFilterNet3
from timbre.denoise.frontend import BINS, Frontend
from timbre.denoise.network import Network
from timbre.denoise.weights import ARCHIVE_SHA256
from timbre.torch_settings import exact_float32

GOLDEN = Path(__file__).parents[1] / "help" / "golden" / "denoise.safetensors"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model(cache: Path) -> DeepFilterNet3:
    return DeepFilterNet3.load(cache_dir=cache)


def padded_batch(lengths: list[int], width: int | None = None) -> tuple[Tensor, Tensor]:
    batch = torch.zeros(len(lengths), width or max(lengths))
    for row, samples in enumerate(lengths):
        batch[row, :samples] = noisy_voice(samples, seed=row)
    return batch, torch.tensor(lengths)


def test_golden_output_of_the_official_package_is_met(model: DeepFilterNet3) -> None:
    golden = safetensors.torch.load_file(GOLDEN)
    denoised = model(golden["noisy"].float()[None] / 32768)[0]
    assert si_sdr_db(denoised, golden["denoised"]) >= 100


def test_noise_goes_and_the_voice_stays(model: DeepFilterNet3) -> None:
    clean, noisy = voice(96_000), noisy_voice(96_000)
    denoised = model(noisy[None])[0]
    late_half = slice(48_000, None)
    assert si_sdr_db(denoised[late_half], clean[late_half]) > si_sdr_db(
        noisy[late_half], clean[late_half]
    )
    quiet = clean.abs() == 0
    quiet[:48_000] = False
    assert denoised[quiet].square().mean() < 0.01 * noisy[quiet].square().mean()


def test_delay_is_zero_samples(model: DeepFilterNet3) -> None:
    clean = noisy_voice(96_000, noise=0.002)
    denoised = model(clean[None])[0]
    spectra = torch.fft.rfft(torch.stack((clean, denoised)), n=2 * len(clean))
    correlation = torch.fft.irfft(spectra[1] * spectra[0].conj())
    assert int(correlation.argmax()) == 0


def test_padded_batch_equals_one_by_one(model: DeepFilterNet3) -> None:
    batch, lengths = padded_batch([24_000, 1, 0, 479, 480, 481, 17_003, 961, 30_001])
    denoised = model(batch, lengths)
    for row, samples in enumerate(lengths.tolist()):
        alone = model(batch[row : row + 1, :samples])[0]
        assert alone.shape == (samples,)
        assert torch.allclose(denoised[row, :samples], alone, atol=1e-6, rtol=0)
        assert not denoised[row, samples:].any()
    assert denoised.abs().max() > 0.05


@pytest.mark.parametrize("garbage", [1.0, -3e4, float("inf"), float("nan")])
def test_what_lies_in_the_padding_does_not_matter(model: DeepFilterNet3, garbage: float) -> None:
    batch, lengths = padded_batch([9_000, 4_321, 10])
    expected = model(batch, lengths)
    beyond = torch.arange(batch.shape[1]) >= lengths[:, None]
    before = batch.masked_fill(beyond, garbage)
    assert torch.equal(model(before, lengths), expected)
    assert torch.equal(before.isnan() | (before == garbage), beyond)  # the input is left alone


def test_width_of_the_padding_does_not_matter(model: DeepFilterNet3) -> None:
    lengths = [12_000, 4_800, 5_281]
    narrow = model(*padded_batch(lengths))
    for width in (12_001, 12_479, 12_480, 30_000):
        wide = model(*padded_batch(lengths, width))
        assert torch.allclose(wide[:, :12_000], narrow, atol=1e-6, rtol=0)
        assert not wide[:, 12_000:].any()


def test_every_short_length_works(model: DeepFilterNet3) -> None:
    clip = noisy_voice(2_000)
    for samples in [*range(1, 12), *range(476, 486), *range(957, 964), 1439, 1440, 1441]:
        denoised = model(clip[None, :samples])
        assert denoised.shape == (1, samples)
        assert denoised.isfinite().all()
    assert model(torch.zeros(2, 0)).shape == (2, 0)


def test_silence_stays_silence(model: DeepFilterNet3) -> None:
    assert not model(torch.zeros(2, 24_000)).any()


def test_features_are_finite_after_minutes_of_digital_silence() -> None:
    spectrum = torch.zeros(1, 11_000, BINS, dtype=torch.complex64)
    spectrum[:, -1] = 0.1
    levels, low = Frontend().features(spectrum)
    assert levels.isfinite().all()
    assert low.isfinite().all()
    assert low[0, -1].abs().max() > 1


# How it computes


def test_autocast_around_it_changes_nothing(model: DeepFilterNet3) -> None:
    batch, lengths = padded_batch([9_000, 4_321])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        denoised = model(batch, lengths)
    assert denoised.dtype == torch.float32
    assert torch.equal(denoised, model(batch, lengths))


def test_output_may_take_part_in_training_and_inference_mode(model: DeepFilterNet3) -> None:
    batch, _ = padded_batch([4_800])
    gain = torch.ones((), requires_grad=True)
    (gain * model(batch)).square().sum().backward()
    assert gain.grad is not None
    with torch.inference_mode():
        assert torch.equal(model(batch), model(batch.clone()))


def test_reduced_precision_is_forbidden_inside_and_restored_outside() -> None:
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        outside = (matmul.fp32_precision, convolution.fp32_precision)
        with pytest.raises(KeyError), exact_float32():
            assert (matmul.fp32_precision, convolution.fp32_precision) == ("ieee", "ieee")
            raise KeyError
        assert (matmul.fp32_precision, convolution.fp32_precision) == outside
        assert outside[0] == "tf32"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_model_is_frozen_and_small(model: DeepFilterNet3) -> None:
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("noisy", "lengths", "message"),
    [
        (torch.zeros(480), None, r"shape \(480,\)"),
        (torch.zeros(0, 480), None, r"shape \(0, 480\)"),
        (torch.zeros(1, 1, 480), None, r"\(batch, samples\)"),
        (torch.zeros(1, 480, dtype=torch.float64), None, "float64"),
        (torch.zeros(2, 480), torch.tensor([480]), r"expected integers of shape \(2,\)"),
        (torch.zeros(1, 480), torch.tensor([480.0]), "expected integers"),
        (torch.zeros(2, 480), torch.tensor([480, 481]), r"\[481\].*0 to 480"),
        (torch.zeros(2, 480), torch.tensor([-1, 480]), r"\[-1\].*0 to 480"),
    ],
)
def test_wrong_input_is_refused(
    model: DeepFilterNet3, noisy: Tensor, lengths: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model(noisy, lengths)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(cache: Path, model: DeepFilterNet3) -> None:
    batch, lengths = padded_batch([96_000, 30_011, 1, 480])
    expected = model(batch, lengths)
    on_gpu = DeepFilterNet3.load(cache_dir=cache).cuda()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        denoised = on_gpu(batch.cuda(), lengths.cuda()).cpu()
    finally:
        torch.set_float32_matmul_precision(before)
    for row, samples in enumerate(lengths.tolist()):
        if samples > 1:
            assert si_sdr_db(denoised[row, :samples], expected[row, :samples]) >= 80


def test_weights_come_from_the_archive_in_the_wheel(model: DeepFilterNet3) -> None:
    assert model.weights_sha256 == ARCHIVE_SHA256


def test_recurrent_weights_lie_as_each_kind_of_device_takes_them() -> None:
    """They lie by columns on a CPU, which is faster. Elsewhere they lie by rows: cuDNN takes nothing else."""
    network = Network()
    for device, by_rows in [("cpu", False), ("meta", True)]:
        weights = [p for n, p in network.to(device).named_parameters() if "gru.weight_hh" in n]
        assert len(weights) == 5
        assert {weight.is_contiguous() for weight in weights} == {by_rows}
        assert {weight.T.is_contiguous() for weight in weights} == {not by_rows}


@pytest.fixture(scope="module")
def noisy() -> list[torch.Tensor]:
    return [noisy_voice(samples, samples) for samples in (48_000, 30_123, 9_601)]


@pytest.fixture(scope="module")
def denoised_batch(noisy: list[torch.Tensor]) -> list[torch.Tensor]:
    batch = torch.nn.utils.rnn.pad_sequence(noisy, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in noisy])
    denoised = DeepFilterNet3.load()(batch, lengths)
    return [row[:length] for row, length in zip(denoised, lengths, strict=True)]


def test_a_batch_of_denoised_clips_equals_one_by_one(
    noisy: list[torch.Tensor], denoised_batch: list[torch.Tensor]
) -> None:
    model = DeepFilterNet3.load()
    for clip, denoised in zip(noisy, denoised_batch, strict=True):
        assert si_sdr_db(denoised, model(clip[None])[0]) > 100
        assert si_sdr_db(denoised, clip) < 30  # it did something
