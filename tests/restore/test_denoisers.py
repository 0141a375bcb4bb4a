"""Restoring behind any denoiser: each name means the same denoiser everywhere."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.help.moved_generators import build
from tests.help.official_deepfilternet import INSTALLED
from tests.help.onnx_models import write_filter
from tests.restore.live.test_restorer import live
from tests.restore.sounds import noisy
from timbre import audio, cli
from timbre.audio import Wave
from timbre.denoise import load_denoiser
from timbre.models import GeneratorConfig, checkpoint
from timbre.restore import Restorer
from timbre.restore.live import LiveRestorer, Mix

NEEDS = {"rnnoise": "pyrnnoise", "gate": "noisereduce", "onnx": "onnxruntime"}
WARNING = "has learned behind df3, not behind"
Save = Callable[..., str]


@pytest.fixture(params=["df3", "official", "rnnoise", "gate", "onnx", "none"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param in NEEDS:
        pytest.importorskip(NEEDS[request.param])
    if request.param == "official" and not INSTALLED:
        pytest.skip("deepfilternet is not installed")
    if request.param == "onnx":
        return f"onnx:{write_filter(tmp_path / 'filter.onnx', delay=700)}"
    return str(request.param)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(*denoisers: str, causal: bool = False) -> str:
        path = str(tmp_path / "made.safetensors")
        generator = build("spectral", causal=causal, moved=True)
        config = GeneratorConfig("spectral", "tiny", causal)
        checkpoint.save_generator(path, generator, config, {}, denoisers)
        return path

    return write


def test_what_comes_before_the_generator_is_the_denoisers_own_output(name: str) -> None:
    waves = np.stack([noisy(1.3, 1), 0.1 * noisy(1.3, 2)])
    level_db = [-25 - audio.active_level_db(wave) for wave in waves]
    gains = np.array([[audio.gain(gain_db)] for gain_db in level_db], np.float32)
    denoiser = load_denoiser(name)
    clips: list[Wave] = list(waves * gains)
    expected = np.stack(denoiser.denoise_clips(clips) if denoiser else clips) / gains
    restorer = Restorer.load(None, name, device="cpu")
    np.testing.assert_allclose(restorer(waves, 48_000, strength=0.0), expected, atol=2e-5)


@pytest.mark.parametrize("sizes", [[480], [1, 700, 5000]], ids=str)
def test_a_live_signal_behind_rnnoise_is_what_a_whole_one_is(save: Save, sizes: list[int]) -> None:
    pytest.importorskip("pyrnnoise")
    path = save("rnnoise", causal=True)
    waves = np.stack([noisy(0.7, 1), noisy(0.7, 2)])
    gain = audio.gain(-25 - audio.active_level_db(waves[0]))
    whole = Restorer.load(path, "rnnoise", device="cpu")(waves[:1] * np.float32(gain), 48_000)
    restorer = LiveRestorer.load(path, "rnnoise", channels=2, mix=Mix(link=False))
    result = live(restorer, waves * np.float32(gain), sizes)
    np.testing.assert_allclose(result[:1], whole, atol=1e-4)
    assert restorer.latency_samples == 960 + 480 + 479


def test_a_checkpoint_behind_a_denoiser_that_it_does_not_know_says_so_in_one_line(
    save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyrnnoise")
    audio.write(tmp_path / "in.wav", noisy(0.5)[None], 48_000)
    words = [str(tmp_path / "in.wav"), str(tmp_path / "out.wav"), "--denoiser", "rnnoise"]
    for stream in ([], ["--stream"]):
        path = save("df3", causal=True)
        assert cli.main(["restore", *stream, *words, "--checkpoint", path]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if f"{path} {WARNING} rnnoise" in line] != []
        path = save("df3", "rnnoise", causal=True)
        assert cli.main(["restore", *stream, *words, "--checkpoint", path]) == 0
        assert WARNING not in capsys.readouterr().err


def test_checkpoints_from_before_there_was_a_choice_know_deepfilternet3(save: Save) -> None:
    assert checkpoint.load_checkpoint("offline").denoisers == ("df3",)
    assert checkpoint.load_checkpoint(save("gate", "df3")).denoisers == ("gate", "df3")
    assert Restorer.load("offline", device="cpu").warning is None
    assert Restorer.load("offline", "none", device="cpu").warning is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--denoiser", "dpdfnet"], "--denoiser: expected df3, official, rnnoise, gate, none or"),
        (["--denoiser", "df3", "--no-denoise"], "--no-denoise: contradicts --denoiser df3"),
        (["--denoiser", "onnx:{tmp}/gone.onnx"], "denoiser onnx:{tmp}/gone.onnx: cannot be read"),
        (["--denoiser", "gate", "--denoiser-weights", "w"], "denoiser gate: takes no weights"),
        (["--stream", "--denoiser", "gate"], "--denoiser gate: takes whole signals"),
        (["--stream", "--denoiser", "official"], "live ones go through df3, rnnoise, none"),
    ],
)
def test_a_denoiser_that_cannot_be_used_is_one_line_and_leaves_no_file(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    audio.write(tmp_path / "in.wav", noisy(0.2)[None], 48_000)
    files = [str(tmp_path / "in.wav"), str(tmp_path / "out.wav")]
    words = [word.format(tmp=tmp_path) for word in words]
    assert cli.main(["restore", *files, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message.format(tmp=tmp_path) in line
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize(("name", "package"), NEEDS.items())
def test_a_missing_package_is_named_with_the_way_to_install_it(
    name: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audio.write(tmp_path / "in.wav", noisy(0.2)[None], 48_000)
    write_filter(tmp_path / "f.onnx")
    files = [str(tmp_path / "in.wav"), str(tmp_path / "out.wav")]
    monkeypatch.setattr("timbre.packages.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, package, None)
    word = f"onnx:{tmp_path}/f.onnx" if name == "onnx" else name
    assert cli.main(["restore", *files, "--denoiser", word]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"pip install 'timbre[{name}]'" in line and package in line
    assert not (tmp_path / "out.wav").exists()
