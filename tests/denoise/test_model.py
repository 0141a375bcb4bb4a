import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.help.denoise_inputs import noisy_voice, si_sdr_db, voice
from timbre.denoise import DeepFilterNet3
from timbre.denoise.frontend import BINS, Frontend
from timbre.denoise.network import Network
from timbre.denoise.onnx_archive import read_archive
from timbre.denoise.weights import ARCHIVE_SHA256, load_weights, wheel_archive
from timbre.errors import CheckpointError
from timbre.torch_settings import exact_float32

GOLDEN = Path(__file__).parents[1] / "help" / "golden" / "denoise.safetensors"
CONFIG = """[df]
sr = 48000
fft_size = 960
hop_size = 480
min_nb_erb_freqs = 2
norm_tau = 1
df_lookahead = 2
[deepfilternet]
conv_lookahead = 2
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def model(cache: Path) -> DeepFilterNet3:
    return DeepFilterNet3.load(cache_dir=cache)


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Tensor]:
    return read_archive(wheel_archive().read_bytes())


def padded(lengths: list[int], width: int | None = None) -> tuple[Tensor, Tensor]:
    batch = torch.zeros(len(lengths), width or max(lengths))
    for row, samples in enumerate(lengths):
        batch[row, :samples] = noisy_voice(samples, seed=row)
    return batch, torch.tensor(lengths)


# What comes out


def test_golden_output_of_the_official_package_is_met(model: DeepFilterNet3) -> None:
    golden = safetensors.torch.load_file(GOLDEN)
    denoised = model(golden["noisy"].float()[None] / 32768)[0]
    assert si_sdr_db(denoised, golden["denoised"]) >= 100


def test_noise_goes_and_the_voice_stays(model: DeepFilterNet3) -> None:
    clean, noisy = voice(96_000), noisy_voice(96_000)
    denoised = model(noisy[None])[0]
    settled = slice(48_000, None)
    assert si_sdr_db(denoised[settled], clean[settled]) > si_sdr_db(noisy[settled], clean[settled])
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
    batch, lengths = padded([24_000, 1, 0, 479, 480, 481, 17_003, 961, 30_001])
    denoised = model(batch, lengths)
    for row, samples in enumerate(lengths.tolist()):
        alone = model(batch[row : row + 1, :samples])[0]
        assert alone.shape == (samples,)
        assert torch.allclose(denoised[row, :samples], alone, atol=1e-6, rtol=0)
        assert not denoised[row, samples:].any()
    assert denoised.abs().max() > 0.05


@pytest.mark.parametrize("garbage", [1.0, -3e4, float("inf"), float("nan")])
def test_what_lies_in_the_padding_does_not_matter(model: DeepFilterNet3, garbage: float) -> None:
    batch, lengths = padded([9_000, 4_321, 10])
    expected = model(batch, lengths)
    beyond = torch.arange(batch.shape[1]) >= lengths[:, None]
    before = batch.masked_fill(beyond, garbage)
    assert torch.equal(model(before, lengths), expected)
    assert torch.equal(before.isnan() | (before == garbage), beyond)  # the input is left alone


def test_width_of_the_padding_does_not_matter(model: DeepFilterNet3) -> None:
    lengths = [12_000, 4_800, 5_281]
    narrow = model(*padded(lengths))
    for width in (12_001, 12_479, 12_480, 30_000):
        wide = model(*padded(lengths, width))
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
    batch, lengths = padded([9_000, 4_321])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        denoised = model(batch, lengths)
    assert denoised.dtype == torch.float32
    assert torch.equal(denoised, model(batch, lengths))


def test_output_may_take_part_in_training_and_inference_mode(model: DeepFilterNet3) -> None:
    batch, _ = padded([4_800])
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
    batch, lengths = padded([96_000, 30_011, 1, 480])
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


# Weights


def test_weights_come_from_the_archive_in_the_wheel(model: DeepFilterNet3) -> None:
    assert model.weights_sha256 == ARCHIVE_SHA256


def test_cached_bytes_are_reproducible_and_loadable(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:  # two jobs that find the cache empty do no harm
        first, second = pool.map(lambda _: load_weights(cache_dir=tmp_path / "one"), range(2))
    load_weights(wheel_archive(), tmp_path / "other")
    (one,) = (tmp_path / "one").iterdir()
    (other,) = (tmp_path / "other").iterdir()
    assert ARCHIVE_SHA256[:16] in one.name
    assert one.read_bytes() == other.read_bytes()
    state, sha256 = load_weights(one)
    assert sha256 == first[1] == second[1] == ARCHIVE_SHA256
    assert all(torch.equal(state[name], first[0][name]) for name in first[0])


def test_default_cache_lies_in_the_folder_of_torch_hub(tmp_path: Path) -> None:
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path))
    try:
        load_weights()
    finally:
        torch.hub.set_dir(before)
    assert len(list((tmp_path / "timbre").glob("*.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "replaced"])
def test_damaged_cache_is_rebuilt(tmp_path: Path, damage: str) -> None:
    load_weights(cache_dir=tmp_path)
    (cached,) = tmp_path.iterdir()
    whole = cached.read_bytes()
    middle = len(whole) // 2
    broken = {
        "truncated": whole[:middle],
        "flipped": whole[:middle] + bytes([whole[middle] ^ 64]) + whole[middle + 1 :],
        "emptied": b"",
        "replaced": safetensors.torch.save({"weight": torch.zeros(3)}),
    }[damage]
    cached.write_bytes(broken)
    with pytest.raises(CheckpointError, match=cached.name):
        load_weights(cached)
    load_weights(cache_dir=tmp_path)
    assert cached.read_bytes() == whole


@pytest.mark.parametrize("content", [b"404: Not Found\n", b"", None])
def test_an_archive_with_another_hash_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "DeepFilterNet3_onnx.tar.gz"
    path.write_bytes(wheel_archive().read_bytes()[:100_000] if content is None else content)
    with pytest.raises(CheckpointError, match=rf"{path.name} has SHA-256 .*{ARCHIVE_SHA256}"):
        load_weights(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.tar\.gz"):
        load_weights(tmp_path / "nowhere.tar.gz", tmp_path)


def test_checkpoint_and_zip_give_the_weights_of_the_archive(
    tmp_path: Path, checkpoint: dict[str, Tensor]
) -> None:
    path = tmp_path / "model_120.ckpt.best"
    torch.save(checkpoint, path)
    packed = tmp_path / "DeepFilterNet3.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("DeepFilterNet3/config.ini", CONFIG)
        archive.writestr("DeepFilterNet3/checkpoints/model_9.ckpt", b"an older one")
        archive.write(path, "DeepFilterNet3/checkpoints/model_120.ckpt.best")
    expected, _ = load_weights(cache_dir=tmp_path)
    hashes = {ARCHIVE_SHA256}
    for source in (path, packed):
        state, sha256 = load_weights(source, tmp_path)
        hashes.add(sha256)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert len(hashes) == 3


def test_a_checkpoint_of_something_else_is_refused_by_name(
    tmp_path: Path, checkpoint: dict[str, Tensor]
) -> None:
    name = "enc.df_conv0.2.weight"
    cases: list[tuple[object, str]] = [
        ({k: v for k, v in checkpoint.items() if k != name}, f"{name} is missing"),
        ({**checkpoint, name: torch.zeros(64, 32, 1, 1)}, rf"{name} is \(64, 32, 1, 1\), expected"),
        ({**checkpoint, "enc.more": torch.zeros(1)}, r"enc\.more is \(1,\), expected no such"),
        ({"state": 3}, "and [0-9]+ more"),
        ([1, 2], "holds a list"),
    ]
    for content, message in cases:
        path = tmp_path / "model_1.ckpt"
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            load_weights(path, tmp_path)


def test_files_that_are_no_checkpoint_are_refused(
    tmp_path: Path, checkpoint: dict[str, Tensor]
) -> None:
    path = tmp_path / "model_1.ckpt"
    torch.save(checkpoint, path)
    empty_zip = b"PK\5\6" + bytes(18)
    whole = path.read_bytes()
    for content in (b"", b"hello there, this is text", whole[:200_000], empty_zip):
        broken = tmp_path / "broken.ckpt"
        broken.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"broken\.ckpt is no whole PyTorch checkpoint"):
            load_weights(broken, tmp_path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "DeepFilterNet3.zip"
    path.write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match="not a zip file"):
        load_weights(path, tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"readme\.txt.*expected config\.ini"):
        load_weights(path, tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.ini", CONFIG.replace("freqs = 2", "freqs = 1"))
        archive.writestr("checkpoints/model_1.ckpt", b"")
    with pytest.raises(CheckpointError, match=r"df\.min_nb_erb_freqs = 1; expected 2"):
        load_weights(path, tmp_path)


def test_recurrent_weights_lie_as_each_kind_of_device_takes_them() -> None:
    """By columns on a CPU, which is faster; by rows elsewhere: cuDNN refuses all else."""
    network = Network()
    for device, by_rows in [("cpu", False), ("meta", True)]:
        found = [p for n, p in network.to(device).named_parameters() if "gru.weight_hh" in n]
        assert len(found) == 5
        assert {weight.is_contiguous() for weight in found} == {by_rows}
        assert {weight.T.is_contiguous() for weight in found} == {not by_rows}


@pytest.fixture(scope="module")
def noisy() -> list[torch.Tensor]:
    return [noisy_voice(samples, samples) for samples in (48_000, 30_123, 9_601)]


@pytest.fixture(scope="module")
def batched(noisy: list[torch.Tensor]) -> list[torch.Tensor]:
    batch = torch.nn.utils.rnn.pad_sequence(noisy, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in noisy])
    denoised = DeepFilterNet3.load()(batch, lengths)
    return [row[:length] for row, length in zip(denoised, lengths, strict=True)]


def test_a_batch_of_denoised_clips_equals_one_by_one(
    noisy: list[torch.Tensor], batched: list[torch.Tensor]
) -> None:
    model = DeepFilterNet3.load()
    for clip, denoised in zip(noisy, batched, strict=True):
        assert si_sdr_db(denoised, model(clip[None])[0]) > 100
        assert si_sdr_db(denoised, clip) < 30  # it did something
