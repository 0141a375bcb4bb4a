"""The restorer as a program calls it: arrays and tensors of any shape, rate and length."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import timbre
from tests.help.moved_generators import NAMES, build, noise
from timbre import audio
from timbre.audio import Wave
from timbre.audio.levels import working_level
from timbre.audio.synthetic.voice import voice
from timbre.denoise import DeepFilterNet3
from timbre.errors import AudioError, ConfigError
from timbre.models import checkpoint
from timbre.models.generator import GeneratorConfig
from timbre.restore.output import Output
from timbre.restore.restorer import Restorer


def noisy(seconds: float, seed: int = 0) -> Wave:
    rng = np.random.default_rng(seed)
    clean = voice(seconds, rng)
    return clean + 0.01 * rng.standard_normal(len(clean)).astype(np.float32)


def difference_db(one: Wave, other: Wave) -> float:
    error = np.square((one - other).astype(float)).sum()
    return float(10 * np.log10(error / np.square(other.astype(float)).sum()))


def make_restorer(name: str = "spectral") -> Restorer:
    """One whose generator corrects about as much as a trained one."""
    generator = build(name, noisy_input=True)
    with torch.no_grad():
        for number, parameter in enumerate(generator.parameters()):
            parameter += 0.01 * noise(*parameter.shape, seed=number)
    generator.requires_grad_(False).eval()
    return Restorer(generator, DeepFilterNet3.load(), "cpu", noisy_input=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_in_chunks_equals_the_whole_to_100_db(name: str) -> None:
    restorer = make_restorer(name)
    wave = noisy(4.0)
    restorer.chunk_samples = 48_000
    in_chunks = restorer(wave, 48_000)
    gain = np.float32(audio.gain(-25 - audio.active_level_db(wave)))
    network_input = torch.from_numpy(wave * gain)[None]
    with torch.inference_mode():
        denoised = DeepFilterNet3.load()(network_input)
        whole = restorer.generator(denoised[:, None], network_input[:, None])[0, 0].numpy() / gain  # type: ignore[misc]
    assert difference_db(in_chunks, whole) < -100
    assert difference_db(denoised[0].numpy() / gain, whole) > -60  # the generator does something
    assert difference_db(restorer(wave, 48_000, strength=0.0), denoised[0].numpy() / gain) < -100


def test_from_timbre_import_restorer_is_the_class_and_loads_nothing_before() -> None:
    assert timbre.Restorer is Restorer
    code = "import sys, timbre; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="Restore"):
        timbre.Restore  # noqa: B018


@pytest.mark.parametrize("shape", [(9000,), (2, 9000), (2, 3, 9000)])
def test_arrays_and_tensors_of_one_to_three_dimensions_come_back_alike(
    shape: tuple[int, ...],
) -> None:
    restorer = make_restorer()
    array = np.stack([noisy(9000 / 48_000, seed) for seed in range(int(np.prod(shape[:-1])))])
    array = array.reshape(shape)
    result = restorer(array, 48_000)
    tensor = restorer(torch.from_numpy(array).double(), 48_000)
    assert isinstance(result, np.ndarray) and isinstance(tensor, torch.Tensor)
    assert result.dtype == np.float32 and tensor.dtype == torch.float32
    assert result.shape == tensor.shape == shape
    np.testing.assert_array_equal(result, tensor.numpy())
    for row, alone in zip(result.reshape(-1, 9000), array.reshape(-1, 9000), strict=True):
        np.testing.assert_array_equal(row, restorer(alone, 48_000))
    assert not tensor.is_inference()  # may take part in training


def test_an_array_that_must_not_be_written_is_not() -> None:
    wave = noisy(0.2)
    before = wave.copy()
    wave.flags.writeable = False
    make_restorer()(wave, 48_000)
    np.testing.assert_array_equal(wave, before)


@pytest.mark.parametrize("rate", [8000, 44_100, 48_000, 192_000])
def test_the_dry_share_is_the_input_in_phase(rate: int) -> None:
    restorer = make_restorer()
    wave = audio.resample(noisy(0.5), 48_000, rate)
    wet, half, dry = (restorer(wave, rate, dry=share) for share in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(dry, wave)
    np.testing.assert_allclose(half, (wet + wave) / 2, atol=1e-6)
    # Without networks there is only the way through all stages, and it delays nothing.
    tone = np.sin(np.arange(rate // 2) * (2 * np.pi * 1000 / rate)).astype(np.float32)
    through = Restorer(None, None)(tone, rate)
    middle = slice(rate // 10, -rate // 10)
    assert np.abs(through[middle] - tone[middle]).max() < 1e-3


def test_another_rate_keeps_the_time_and_what_is_restored() -> None:
    restorer = make_restorer()
    wave = audio.resample(noisy(0.5), 48_000, 16_000)
    low, high = restorer(wave, 16_000), restorer(wave, 16_000, rate=48_000)
    assert len(high) == 3 * len(wave)
    assert difference_db(audio.resample(high, 48_000, 16_000), low) < -60


def test_no_more_is_held_however_long_the_signal_is() -> None:
    restorer = make_restorer()
    restorer.chunk_samples = 4 * 48_000
    samples_read = samples_made = most_held = 0
    seconds = 24

    def source() -> Iterator[Wave]:
        nonlocal samples_read
        samples_read = 0
        for _ in range(seconds):
            samples_read += 48_000
            yield np.zeros((1, 48_000), np.float32)

    for block in restorer.blocks(source, 48_000, Output(dry=0.1)):
        samples_made += block.shape[1]
        most_held = max(most_held, samples_read - samples_made)
        assert np.abs(block).max() < 1e-5  # silence stays silence
    assert samples_made == seconds * 48_000
    # The chunk, what the generator hears ahead, and a block of 5 s on the way out.
    assert most_held < 11 * 48_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": 1.5}, "strength 1.5: expected 0 to 1"),
        ({"dry": float("nan")}, "dry nan"),
        ({"rate": 0}, "0 Hz"),
        ({"sample_rate": -1}, "-1 Hz"),
        ({"sample_rate": 44_100.0}, "44100.0 Hz: expected a whole number"),
        ({"sample_rate": 44_101}, "44101 Hz"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        make_restorer()(noisy(0.1), **{"sample_rate": 48_000, **change})


@pytest.mark.parametrize(
    "wave", [np.zeros((2, 100), np.int16), np.zeros((1, 1, 1, 9)), np.array([0.0, np.inf])]
)
def test_what_is_no_waveform_is_refused_with_shape_and_type(wave: Wave) -> None:
    with pytest.raises(AudioError, match=str(wave.dtype)):
        make_restorer()(wave, 48_000)


@pytest.mark.parametrize("device", ["banana", "meta", "", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device {device}: .*expected one of cpu"):
        Restorer.load(None, device=device)


def test_a_limit_holds_for_a_checkpoint_that_was_trained_without(tmp_path: Path) -> None:
    path = tmp_path / "g.safetensors"
    generator = build("spectral")
    torch.nn.init.constant_(generator.head.bias[:481], 2.0)  # 17 dB
    checkpoint.save_generator(str(path), generator, GeneratorConfig("spectral", "tiny"), {})
    wave = noisy(0.3)
    free, with_limit, denoised = (
        Restorer.load(url, device="cpu", max_lift_db=limit)(wave, 48_000)
        for url, limit in ((path, None), (path, 1.0), (None, None))
    )
    rise_db = [
        20 * np.log10(np.linalg.norm(w) / np.linalg.norm(denoised)) for w in (free, with_limit)
    ]
    assert rise_db[1] <= 4.0 < rise_db[0]  # 1 dB, and 3 where a bin counts its neighbours


def test_a_causal_checkpoint_restores_files_too(tmp_path: Path) -> None:
    path = tmp_path / "causal.safetensors"
    config = GeneratorConfig("spectral", "tiny", causal=True)
    checkpoint.save_generator(str(path), build("spectral", causal=True, moved=True), config, {})
    wave = noisy(0.3)
    assert difference_db(Restorer.load(path, device="cpu")(wave, 48_000), wave) < 10


@pytest.mark.parametrize("seconds", [1.0, 2.5])
def test_a_constant_offset_changes_nothing_but_itself(seconds: float) -> None:
    """A voice at -46 dBFS on an offset ten times as high, through both networks, at another rate."""
    restorer = make_restorer()
    quiet = audio.resample(0.1 * noisy(seconds), 48_000, 44_100)
    stereo = np.stack([quiet, 0.5 * quiet])
    plain = restorer(stereo - stereo.mean(axis=1, keepdims=True), 44_100)
    offset = restorer(stereo + np.array([[0.05], [-0.2]], np.float32), 44_100)
    assert audio.level_db(offset - plain) < audio.level_db(plain) - 60


def test_a_signal_without_an_offset_stays_as_it_is() -> None:
    wave = noisy(1.0)
    level = working_level([wave[None]], 48_000)
    assert not level.offsets.any() and level.samples == 48_000
    assert level.gains.item() == pytest.approx(audio.gain(-25 - audio.active_level_db(wave)))
