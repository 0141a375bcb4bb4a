"""`timbre restore --stream`: a real pipe, and files."""

import subprocess
import sys
from io import FileIO
from pathlib import Path

import numpy as np
import pytest

from tests.help.moved_generators import build, noise
from tests.restore.live.test_restorer import live, noisy
from timbre import audio, cli
from timbre.audio import HOP, to_int16
from timbre.errors import AudioError
from timbre.models import checkpoint
from timbre.models.generator import GeneratorConfig
from timbre.restore.live.pcm import PcmSource, to_bytes
from timbre.restore.live.restorer import LiveRestorer

COMMAND = [sys.executable, "-m", "timbre", "restore", "--stream"]


def save(path: Path, causal: bool) -> str:
    generator = build("spectral", causal=causal)
    for index, parameter in enumerate(generator.parameters()):
        parameter.data += 0.01 * noise(*parameter.shape, seed=index)
    config = GeneratorConfig("spectral", "tiny", causal)
    checkpoint.save_generator(str(path), generator, config, {})
    return str(path)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("checkpoint") / "causal.safetensors", causal=True)


def test_a_pipe_gives_each_hop_as_soon_as_it_can_and_the_rest_at_the_end(causal: str) -> None:
    signal = noisy(6_001)
    data = np.ascontiguousarray(signal.T).tobytes()
    words = ["-", "-", "--checkpoint", causal, "--channels", "2", "--encoding", "f32le"]
    with subprocess.Popen(
        [*COMMAND, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        frame = 2 * 4
        process.stdin.write(data[: 6 * HOP * frame])  # 50 ms late, and 10 more for two channels
        process.stdin.flush()
        # The input is still open: a buffer anywhere, and this never comes.
        first = process.stdout.read(HOP * frame)
        process.stdin.write(data[6 * HOP * frame :])
        process.stdin.close()
        rest = process.stdout.read()
    assert process.returncode == 0
    result = np.frombuffer(first + rest, "<f4").reshape(-1, 2).T
    expected = live(LiveRestorer.load(causal, channels=2), signal, [HOP])
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_a_listener_that_leaves_ends_it_without_a_word(causal: str) -> None:
    with subprocess.Popen(
        [*COMMAND, "-", "-", "--checkpoint", causal, "--no-denoise"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(to_int16(noisy(3 * HOP, 1)).tobytes())
        process.stdin.flush()
        process.stdout.read(2 * HOP)
        process.stdout.close()
        process.stdin.write(to_int16(noisy(3 * HOP, 1)).tobytes())
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(("encoding", "size"), [("s16le", 2), ("f32le", 4)])
def test_an_end_within_a_sample_is_told_after_all_else_was_given(
    tmp_path: Path, encoding: str, size: int
) -> None:
    signal = noisy(40_000)
    path = tmp_path / "raw"
    path.write_bytes(to_bytes(signal, encoding) + bytes(size + 1))
    with FileIO(path) as file:
        source = PcmSource(file, encoding, 2)
        result = np.concatenate(list(source), axis=1)
        np.testing.assert_allclose(result, signal, atol=1 / 32768)
        with pytest.raises(AudioError, match=f"ends with {size + 1} of {2 * size} bytes"):
            source.check_end()


def test_a_sample_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw"
    path.write_bytes(np.array([0, np.nan], "<f4").tobytes())
    with FileIO(path) as file, pytest.raises(AudioError, match="NaN"):
        list(PcmSource(file, "f32le", 1))


def test_a_file_comes_back_in_its_layout(causal: str, tmp_path: Path) -> None:
    signal = noisy(15_001)
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    audio.write(source, signal, 48_000, "FLOAT")
    words = ["restore", "--stream", str(source), str(target), "--checkpoint", causal]
    assert cli.main([*words, "--input-gain-db", "0"]) == 0
    result, rate = audio.read(target)
    assert rate == 48_000 and audio.info(target).subtype == "FLOAT"
    expected = live(LiveRestorer.load(causal, channels=2), signal, [4_000])
    np.testing.assert_allclose(result, np.clip(expected, -1, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["-", "{tmp}/o.wav"], "two files", 2),
        (["{tmp}/a.wav", "{tmp}/o.wav", "--rate", "8000"], "--rate", 2),
        (["{tmp}/gone.wav", "{tmp}/o.wav"], "gone.wav: no such file", 2),
        (["{tmp}", "{tmp}/o.wav"], "is a folder", 2),
        (["-", "-", "--strength", "2"], "strength 2.0: expected 0 to 1", 2),
        (["-", "-", "--rate", "47999"], "no common multiple", 2),
        (
            ["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{tmp}/ahead.safetensors"],
            "looks ahead",
            1,
        ),
        (["{tmp}/a.wav", "{tmp}/o.wav", "--checkpoint", "{tmp}/a.wav"], "not a generator", 1),
    ],
)
def test_bad_usage_gets_one_clear_error_and_leaves_no_file(
    causal: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
    code: int,
) -> None:
    audio.write(tmp_path / "a.wav", noisy(1_000, 1), 48_000)
    save(tmp_path / "ahead.safetensors", causal=False)
    options = [word.format(tmp=tmp_path) for word in words]
    usual = [] if "--checkpoint" in options else ["--checkpoint", causal]
    assert cli.main(["restore", "--stream", *options, *usual]) == code
    error = capsys.readouterr().err
    assert error.count("timbre: error:") == 1 and message in error and "Traceback" not in error
    assert not list(tmp_path.glob("o.*"))
