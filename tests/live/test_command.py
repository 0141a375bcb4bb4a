"""`timbre live` with a real sound server, but without a sound card."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.help.pulse import Pulse, needs_pulse, pulse, read
from timbre import cli
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice
from timbre.restore.live import LiveRestorer

PAGE = Path(__file__).parents[2] / "docs/live.md"
LIVE = [sys.executable, "-m", "timbre", "live"]
WINDOW = 12_000


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulse]:
    with pulse(tmp_path_factory.mktemp("pulse")) as daemon:
        yield daemon


def start(daemon: Pulse, *words: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*LIVE, *words],
        env={**daemon.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def page_commands() -> tuple[list[str], dict[str, str], list[str]]:
    """The page's lines that make a microphone, and the environment and words of the last one."""
    block = re.search(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    *make, last = block[1].splitlines()
    variable, program, command, *words = last.split()
    assert (program, command) == ("timbre", "live")
    name, value = variable.split("=")
    return make, {name: value}, words


def likeness(recorded: Wave, expected: Wave) -> float:
    """The best correlation of quarters of a second of ``expected`` with the recording."""
    best = 0.0
    samples = 1 << (len(recorded) + WINDOW).bit_length()
    spectrum = np.fft.rfft(recorded.astype(float), samples)
    sums = np.concatenate([[0.0], np.cumsum(np.square(recorded, dtype=float))])
    energy = np.sqrt(np.maximum(sums[WINDOW:] - sums[:-WINDOW], 1e-3))
    for first in range(0, len(expected) - WINDOW, 3 * WINDOW):
        part = expected[first : first + WINDOW].astype(float)
        product = np.fft.irfft(spectrum * np.fft.rfft(part, samples).conj(), samples)
        best = max(best, float((product[: len(energy)] / energy).max() / np.linalg.norm(part)))
    return best


@needs_pulse
def test_the_page_makes_a_microphone_that_gives_the_restored_voice(
    sound: Pulse, tmp_path: Path
) -> None:
    make, variables, words = page_commands()
    for line in make:
        subprocess.run(line.split(), env=sound.environment, check=True, capture_output=True)
    rng = np.random.default_rng(1)
    noisy = (voice(6.0, rng) + 0.05 * rng.standard_normal(6 * 48_000)).astype(np.float32)
    recorder = sound.record("timbre_microphone", tmp_path / "recorded")
    # However busy this machine is, the networks have time.
    extra = ["--slack", "40", "--monitor", "phones", "--seconds", "7"]
    live = start(sound, *words, *extra, **variables)
    assert live.stdout
    assert live.stdout.readline().startswith("pulse -> pulse, 48000 Hz")
    player = sound.play("mic", noisy)
    output, error = live.communicate()
    recorder.terminate()
    recorder.wait()
    player.wait()
    assert live.returncode == 0, error
    assert "ms from input to output" in output and re.search(r"late: \d+ hops in \d+ fades", output)
    restorer = LiveRestorer.load()
    restored = np.concatenate([restorer.push(noisy[None]), restorer.flush()], axis=1)[0]
    recorded = read(tmp_path / "recorded")
    assert likeness(recorded, restored) > 0.95 > likeness(noisy, restored) + 0.05


# One process for many commands: it takes seconds to begin.
MANY = """
import contextlib, io, json, sys
from timbre import cli
for words in json.loads(sys.argv[1]):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = cli.main(["live", *words])
    print(json.dumps([code, out.getvalue(), error.getvalue()]))
"""


@needs_pulse
def test_all_rates_run_and_a_device_that_cannot_be_used_is_one_line(sound: Pulse) -> None:
    pair = ["--input", "pulse", "--output", "phones"]
    good = [["--rate", rate, "--seconds", "0.5", *pair] for rate in ("8000", "44100", "96000")]
    bad = {
        ("--input", "banana"): (
            2,
            "--input banana: no such device with an input; those with one: ",
        ),
        ("--input", "pulse", "--output", "99"): (2, "--output 99: no such device with an output"),
        ("--input", "gone", "--output", "phones"): (1, "gone: cannot be opened at 48000 Hz"),
        ("--input", "pulse", "--output", "o"): (2, "--output o: several devices are called so"),
    }
    commands = json.dumps([*good, ["--list"], *map(list, bad)])
    result = subprocess.run(
        [sys.executable, "-c", MANY, commands],
        env=sound.environment, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    for code, out, error in answers[: len(good)]:
        assert (code, error) == (0, "") and "a hop took" in out
    assert "phones" in answers[len(good)][1] and "usual rate" in answers[len(good)][1]
    for (code, _, error), expected in zip(answers[len(good) + 1 :], bad.values(), strict=True):
        assert (code, error.count("timbre: error:")) == (expected[0], 1) and expected[1] in error


@needs_pulse
def test_a_device_that_is_unplugged_ends_it_with_one_line(tmp_path: Path) -> None:
    with pulse(tmp_path) as daemon:
        live = start(daemon, "--input", "pulse", "--output", "pulse")
        assert live.stdout
        live.stdout.readline()
        # It is a card's end as far as ALSA knows.
        daemon.process.kill()
        error = live.communicate()[1]
    assert live.returncode == 1
    assert error.count("timbre: error:") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "96001"], "--rate 96001: expected 8000 to 96000"),
        (["--channels", "3"], "--channels 3: expected 1 or 2"),
        (["--seconds", "0"], "--seconds 0.0: expected more than 0"),
        (["--denoiser", "gate"], "gate"),
        (["--strength", "2"], "--strength 2.0: expected 0 to 1"),
        (["--rate", "47999"], "--rate: cannot resample"),
    ],
)
def test_bad_usage_is_one_line_before_any_device_is_touched(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.main(["live", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("timbre: error:") == 1 and message in error
