"""Restoring files: the output has the shape of the input and exactly the repair that was asked for."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.help.moved_generators import NAMES, build
from timbre import audio, cli
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice
from timbre.denoise import DeepFilterNet3
from timbre.errors import AudioError, CheckpointError
from timbre.models import checkpoint
from timbre.models.generator import GeneratorConfig, build_generator
from timbre.restore.restorer import Restorer


@pytest.fixture(scope="module")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A generator that does something: random weights at the end instead of zeros."""
    config = GeneratorConfig(size="tiny")
    torch.manual_seed(0)
    generator = build_generator(config)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    path = str(tmp_path_factory.mktemp("checkpoint") / "made.safetensors")
    checkpoint.save_generator(path, generator, config, {"step": 0})
    return path


@pytest.fixture(scope="module")
def restorer(checkpoint_path: str) -> Restorer:
    return Restorer.load(checkpoint_path, device="cpu")


def noisy(seconds: float, seed: int = 0) -> Wave:
    rng = np.random.default_rng(seed)
    return voice(seconds, rng) + 0.01 * rng.standard_normal(round(seconds * 48000)).astype(
        np.float32
    )


def snr_db(one: Wave, other: Wave) -> float:
    return float(
        10
        * np.log10(
            np.sum(np.square(other, dtype=float)) / np.sum(np.square(one - other, dtype=float))
        )
    )


@pytest.mark.parametrize("shape", [(1,), (479,), (12345,), (1, 48000), (2, 20000)])
def test_any_shape_comes_back_in_that_shape(restorer: Restorer, shape: tuple[int, ...]) -> None:
    wave = np.resize(noisy(0.5), shape).astype(np.float32)
    restored = restorer(wave, 48000)
    assert restored.shape == shape and restored.dtype == np.float32 and np.isfinite(restored).all()


def test_strength_scales_the_correction_exactly(restorer: Restorer) -> None:
    wave = noisy(1.0)
    none, half, whole = (restorer(wave, 48000, strength) for strength in (0.0, 0.5, 1.0))
    gain = audio.gain(-25 - audio.active_level_db(wave))
    denoised = (
        DeepFilterNet3.load()(torch.from_numpy(wave * np.float32(gain))[None])[0].numpy() / gain
    )
    np.testing.assert_allclose(none, denoised, atol=1e-6)
    np.testing.assert_allclose(half, (none + whole) / 2, atol=1e-6)
    assert snr_db(whole, none) < 60  # the generator does something


def test_the_level_of_the_input_does_not_matter(restorer: Restorer) -> None:
    wave = noisy(1.0)
    assert snr_db(restorer(wave * np.float32(0.1), 48000) * 10, restorer(wave, 48000)) > 60


def test_channels_are_restored_each_alone(restorer: Restorer) -> None:
    one, other = noisy(1.0, 1), noisy(1.0, 2)
    both = restorer(np.stack([one, other]), 48000)
    np.testing.assert_allclose(both[0], restorer(one, 48000), atol=1e-6)
    np.testing.assert_allclose(both[1], restorer(other, 48000), atol=1e-6)


def test_silence_stays_silence(restorer: Restorer) -> None:
    restored = restorer(np.zeros(48000, np.float32), 48000)
    assert audio.level_db(restored) < -100


def test_without_a_denoiser_only_the_generator_runs(checkpoint_path: str) -> None:
    generator, _ = checkpoint.load_generator(checkpoint_path)
    wave = noisy(0.5)
    gain = np.float32(audio.gain(-25 - audio.active_level_db(wave)))
    with torch.inference_mode():
        expected = generator(torch.from_numpy(wave * gain)[None, None])[0, 0].numpy() / gain
    restored = Restorer.load(checkpoint_path, denoise=False, device="cpu")(wave, 48000)
    np.testing.assert_allclose(restored, expected, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_that_hears_the_noisy_side_gets_the_denoisers_input(
    tmp_path: Path, name: str
) -> None:
    path = str(tmp_path / "hearing.safetensors")
    generator = build(name, moved=True, noisy_input=True).eval()
    checkpoint.save_generator(path, generator, GeneratorConfig(name, "tiny", False, True), {})  # type: ignore[arg-type]
    wave = noisy(0.5)
    gain = np.float32(audio.gain(-25 - audio.active_level_db(wave)))
    network_input = torch.from_numpy(wave * gain)[None]
    with torch.inference_mode():
        denoised = DeepFilterNet3.load()(network_input)
        with_it, without = (
            generator(denoised[:, None], second)[0, 0].numpy() / gain
            for second in (network_input[:, None], None)
        )
        degraded = generator(network_input[:, None])[0, 0].numpy() / gain
    assert snr_db(without, with_it) < 40
    assert snr_db(Restorer.load(path, device="cpu")(wave, 48000), with_it) > 90
    # Nothing but the denoiser's output is at hand.
    restored = Restorer.load(path, denoise=False, device="cpu")(wave, 48000)
    np.testing.assert_allclose(restored, degraded, atol=1e-6)


@pytest.mark.parametrize("wave", [np.zeros(0), np.zeros((1, 1, 2, 3)), np.array([0.0, np.nan])])
def test_an_unusable_array_is_refused_with_its_shape(restorer: Restorer, wave: Wave) -> None:
    with pytest.raises(AudioError, match="shape"):
        restorer(wave.astype(np.float32), 48000)


@pytest.mark.parametrize(
    ("rate", "channels", "name", "subtype"),
    [
        (44100, 2, "a.wav", "PCM_24"),
        (16000, 1, "a.flac", "PCM_16"),
        (48000, 1, "a.wav", "FLOAT"),
        (8000, 1, "a.ogg", "VORBIS"),
    ],
)
def test_a_file_keeps_its_length_rate_channels_and_word_length(
    checkpoint_path: str, tmp_path: Path, rate: int, channels: int, name: str, subtype: str
) -> None:
    wave = audio.resample(noisy(0.7), 48000, rate)
    audio.write(tmp_path / name, np.stack([wave] * channels), rate, subtype)
    out = tmp_path / f"out_{name}"
    assert (
        cli.main(["restore", str(tmp_path / name), str(out), "--checkpoint", checkpoint_path]) == 0
    )
    before, after = soundfile.info(tmp_path / name), soundfile.info(out)
    for field in ("frames", "samplerate", "channels", "subtype"):
        assert getattr(before, field) == getattr(after, field), field
    assert snr_db(audio.read(out)[0][0], wave) > 0  # still that speech


def test_a_folder_keeps_its_tree_names_the_bad_file_and_continues(
    checkpoint_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ["a.wav", "deep/er/b.wav"]:
        audio.write(tmp_path / "in" / name, noisy(0.3), 48000)
    (tmp_path / "in/deep/bad.wav").write_text("no audio")
    words = [
        "restore",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--checkpoint",
        checkpoint_path,
    ]
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert "1 of 3 files failed" in error and "deep/bad.wav" in error
    files = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert files == {"a.wav", "deep/er/b.wav"}
    modified = (tmp_path / "out/a.wav").stat().st_mtime_ns
    (tmp_path / "in/deep/bad.wav").unlink()
    assert cli.main(words) == 0
    assert (tmp_path / "out/a.wav").stat().st_mtime_ns == modified  # finished files are left


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["{tmp}/gone.wav", "{tmp}/o.wav", "--checkpoint", "{ckpt}"], "gone.wav", 2),
        (["{tmp}/empty.wav", "{tmp}/o.wav", "--checkpoint", "{ckpt}"], "empty.wav", 1),
        (["{tmp}/a.wav", "{tmp}/o.xyz", "--checkpoint", "{ckpt}"], "o.xyz", 2),
        (["{tmp}/a.wav", "{tmp}/a.wav/o.wav", "--checkpoint", "{ckpt}"], "a.wav", 1),
        (["{tmp}", "{tmp}/o.folder", "--checkpoint", "{ckpt}"], "lies in the input folder", 2),
        (
            ["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{tmp}/gone.safetensors"],
            "gone.safetensors",
            1,
        ),
        (
            ["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{tmp}/other.safetensors"],
            "another architecture",
            1,
        ),
        (
            ["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{tmp}/text.pt"],
            "text.pt: not a training state",
            1,
        ),
        (
            ["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{tmp}/hostile.safetensors"],
            "hostile.safetensors: not a generator of timbre",
            1,
        ),
        (
            ["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{tmp}/hostile.pt"],
            "hostile.pt: not a training state",
            1,
        ),
        (
            ["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{ckpt}", "--dry", "-1"],
            "--dry -1.0: expected 0 to 1",
            2,
        ),
        (["{tmp}", "-", "--checkpoint", "{ckpt}"], "a folder cannot go to standard output", 2),
        (
            ["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{ckpt}", "--strength", "2"],
            "--strength 2.0: expected 0 to 1",
            2,
        ),
    ],
)
def test_bad_input_gets_one_clear_error_and_leaves_no_file(
    checkpoint_path: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
    code: int,
) -> None:
    audio.write(tmp_path / "a.wav", noisy(0.2), 48000)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.pt").write_text("no checkpoint")
    for ending in ("pt", "safetensors"):
        torch.save({"config": {}, "gan": Hostile(), "stream": {}}, tmp_path / f"hostile.{ending}")
    other = build_generator(GeneratorConfig(name="wave", size="tiny"))
    checkpoint.save_generator(
        f"{tmp_path}/other.safetensors", other, GeneratorConfig(size="tiny"), {}
    )
    options = [word.format(tmp=tmp_path, ckpt=checkpoint_path) for word in words]
    assert cli.main(["restore", *options]) == code
    out, error = capsys.readouterr()
    assert error.count("timbre: error:") == 1 and message in error and "Traceback" not in error
    assert "never run" not in out + error
    assert not list(tmp_path.glob("*o.*"))


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return print, ("this code must never run",)


def test_a_checkpoint_that_holds_code_is_refused_without_running_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"config": {}, "gan": Hostile(), "stream": {}}, tmp_path / "hostile.pt")
    with pytest.raises(CheckpointError, match=r"hostile\.pt"):
        checkpoint.load_generator(f"{tmp_path}/hostile.pt")
    assert "never run" not in capsys.readouterr().out
