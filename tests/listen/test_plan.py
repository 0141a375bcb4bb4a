"""What is played: cut alike, equally loud, and the anchor of ITU-R BS.1534."""

from pathlib import Path

import numpy as np
import pyloudnorm
import pytest

from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.listen import command
from timbre.listen.clips import Clip, load_clip, open_folder
from timbre.listen.plan import plan_test
from timbre.listen.stimuli import HIGHEST_PEAK, align, low_anchor


def write(root: Path, sides: dict[str, Wave], clip: str = "a.wav") -> Path:
    for name, wave in sides.items():
        (root / name / clip).parent.mkdir(parents=True, exist_ok=True)
        audio.write(root / name / clip, wave, SAMPLE_RATE)
    return root


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_all_versions_have_one_loudness_also_where_one_would_clip() -> None:
    wave = voice(2.0, rng())
    click = 0.1 * wave
    click[1000] = 0.8
    waves = align(Clip("a", {"x": wave, "y": 0.01 * wave, "z": click})).waves
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    loudness = [meter.integrated_loudness(w.astype(np.float64)) for w in waves.values()]
    assert np.ptp(loudness) < 0.2
    assert max(np.abs(w).max() for w in waves.values()) <= HIGHEST_PEAK + 1e-6


def test_the_anchor_passes_and_stops_what_bs1534_says() -> None:
    impulse = np.zeros(SAMPLE_RATE, np.float32)
    impulse[1000] = 1.0
    response = low_anchor(impulse)
    assert len(response) == len(impulse) and response.argmax() == 1000
    decibel = 20 * np.log10(np.abs(np.fft.rfft(response)) + 1e-12)  # a bin a Hz
    assert np.abs(decibel[20:3501]).max() < 0.1
    assert decibel[4000:].max() < -25 and decibel[4500:].max() < -50


def test_clips_are_cut_where_the_reference_is_loudest(tmp_path: Path) -> None:
    wave = 0.01 * noise("white", 4.0, rng())
    wave[2 * SAMPLE_RATE : 3 * SAMPLE_RATE] *= 30
    folders = open_folder(str(write(tmp_path, {"clean": wave, "df3": 0.5 * wave})), None)
    clip = load_clip(folders, "a", 1.0, "clean")
    np.testing.assert_allclose(clip.waves["clean"], 2 * clip.waves["df3"], atol=1e-4)
    np.testing.assert_allclose(
        clip.waves["clean"], wave[2 * SAMPLE_RATE : 3 * SAMPLE_RATE], atol=1e-4
    )


def test_each_pair_or_all_versions_make_a_part_and_the_same_sounds_the_same_test(
    tmp_path: Path,
) -> None:
    wave = voice(1.0, rng())
    sides = {name: wave * scale for name, scale in [("clean", 1), ("a", 0.5), ("b", 0.4)]}
    for clip in ("one.wav", "deep/two.flac"):
        write(tmp_path, sides, clip)
    folders = open_folder(str(tmp_path), None)
    mushra = plan_test(folders, folders.clips, "mushra", 10.0)
    assert [len(trial["stimuli"]) for trial in mushra.tree["trials"]] == [4, 4]
    assert len(mushra.sounds) == 8
    assert len(plan_test(folders, folders.clips, "ab", 10.0).tree["trials"]) == 6
    assert len(plan_test(folders, folders.clips, "ab", 10.0, "b").tree["trials"]) == 4
    again = plan_test(folders, folders.clips, "mushra", 10.0)
    assert again.tree["test"] == mushra.tree["test"]
    other = plan_test(folders, folders.clips[:1], "mushra", 10.0)
    assert other.tree["test"] != mushra.tree["test"]


BAD = {
    "nowhere": (["nowhere"], 2, "expected a folder for each of two or more systems"),
    "one system": (["t", "--systems", "df3", "--method", "ab"], 2, "two or more systems"),
    "unknown system": (["t", "--systems", "best"], 2, "no folder best with audio; there are: clean, df3, "),
    "no reference": (["t/..//no", "--systems", "a,b"], 2, "no folder clean"),
    "silent": (["t", "--systems", "silent"], 1, "a of silent: is silent"),
    "longer": (["t", "--systems", "long"], 1, "long/a.wav: 57600 samples at 48 kHz, but 48000 in"),
    "lacking": (["t", "--method", "ab", "--systems", "df3,more"], 2, "df3 lacks the clip b, which others have"),
    "short": (["t", "--seconds", "0.1"], 2, "--seconds 0.1: expected at least 1"),
    "against nobody": (["t", "--method", "ab", "--against", "x", "--systems", "clean,df3"], 2, "--against x: expected one of clean, df3"),
    "against in mushra": (["t", "--against", "df3"], 2, "belongs to --method ab"),
    "nothing": ([], 2, "expected FOLDER"),
    "both": (["t", "--results", "x.json"], 2, "expected FOLDER"),
}  # fmt: skip


@pytest.fixture(scope="module")
def bad_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bad")
    wave = voice(1.0, rng())
    longer = np.concatenate([wave, wave[:9600]])
    write(root / "t", {"clean": wave, "df3": wave, "silent": 0 * wave, "long": longer})
    write(root / "t", {"clean": wave, "more": wave})
    write(root / "t", {"more": wave}, "b.wav")
    write(root / "no", {"a": wave, "b": wave})
    return root


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_played_is_refused_by_name(
    name: str,
    bad_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(bad_folder)
    argv, code, message = BAD[name]
    assert command.main(argv) == code
    assert message in capsys.readouterr().err
    assert not list(bad_folder.glob("*.html"))
