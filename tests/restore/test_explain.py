"""What `restore --explain` says is what was done, where it was done."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from timbre import audio
from timbre.audio import HOP, SAMPLE_RATE
from timbre.audio.labelled_spectrograms import change_panel, level_panel, to_png
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.models import GeneratorConfig, build_generator, save_generator
from timbre.restore import command
from timbre.restore.explain import BANDS_HZ, band_levels, passages

SECONDS = 1.5
BINS = SAMPLE_RATE // 2 // 50 + 1


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("recording") / "voice.wav"
    audio.write(path, voice(SECONDS, rng) + 0.02 * noise("white", SECONDS, rng), SAMPLE_RATE)
    return path


def lifting(folder: Path, max_lift_db: float | None) -> str:
    """A generator that doubles twice what lies from 4 to 8 kHz, if its bound lets it."""
    config = GeneratorConfig("spectral", "tiny", max_lift_db=max_lift_db)
    generator = build_generator(config)
    bins = generator.head.out_features // 4
    generator.head.bias.data[4000 // 50 : 8000 // 50] = np.log(4)
    assert bins == BINS
    url = folder / "lifting.safetensors"
    save_generator(str(url), generator, config, None)
    return str(url)


def explain(recording: Path, folder: Path, checkpoint: str, *more: str) -> dict[str, object]:
    argv = [
        str(recording),
        str(folder / "out.wav"),
        "--checkpoint",
        checkpoint,
        "--denoiser",
        "none",
    ]
    assert command.main([*argv, "--explain", str(folder / "why.json"), *more]) == 0
    tree: dict[str, object] = json.loads((folder / "why.json").read_text())
    return tree


def test_what_is_lifted_is_named_by_band_and_amount(recording: Path, tmp_path: Path) -> None:
    tree = explain(recording, tmp_path, lifting(tmp_path, None))
    bands = tree["bands"]
    assert isinstance(bands, list) and [band["low_hz"] for band in bands] == list(BANDS_HZ[:-1])
    lifts = {band["low_hz"]: band["mean_lift_db"] for band in bands}
    assert lifts.pop(4000) == pytest.approx(12.04, abs=0.8)
    assert max(map(abs, lifts.values())) < 2.5  # what leaks over a band's edge
    assert {(p["low_hz"], p["high_hz"]) for p in tree["passages"]} == {(4000.0, 8000.0)}  # type: ignore[attr-defined]
    assert all(p["second_pass_differs_db"] < 0.5 for p in tree["passages"])  # type: ignore[attr-defined]
    assert tree["seconds_held_by_the_bound"] == 0
    image = Image.open(tmp_path / "why.png")
    colours = np.asarray(image.convert("RGB"))
    assert (
        image.width > 1000
        and image.height > 700
        and len(np.unique(colours.reshape(-1, 3), axis=0)) > 50
    )


def test_seconds_in_which_the_bound_held_are_counted(recording: Path, tmp_path: Path) -> None:
    tree = explain(recording, tmp_path, lifting(tmp_path, 3.0))
    assert tree["seconds_held_by_the_bound"] > 0.8 * SECONDS  # type: ignore[operator]
    half = explain(recording, tmp_path, lifting(tmp_path, None), "--strength", "0")
    assert half["passages"] == []


def test_a_passage_is_a_stretch_of_a_band_and_its_sureness_that_of_the_second_pass() -> None:
    lift = np.zeros((len(BANDS_HZ) - 1, 100))
    lift[2, 20:50] = 6.0
    lift[2, 30:33] = 0.0  # a gap too short to count
    lift[4, 70:72] = 20.0  # too short a passage
    again = lift.copy()
    again[2, 20:50] += 0.5
    (one,) = passages(lift, again, np.ones(lift.shape, bool))
    assert (one["start_seconds"], one["end_seconds"]) == (0.2, 0.5)
    assert (one["low_hz"], one["lift_db"]) == (2000.0, pytest.approx(5.4))
    assert one["second_pass_differs_db"] == pytest.approx(0.5)


def test_levels_of_a_tone_stand_in_its_band_and_hop() -> None:
    wave = torch.zeros(1, SAMPLE_RATE)
    place = torch.arange(SAMPLE_RATE // 2)
    wave[0, SAMPLE_RATE // 2 :] = torch.sin(2 * torch.pi * 5000 * place / SAMPLE_RATE)
    levels = band_levels(wave)
    band, hop = np.unravel_index(levels.argmax(), levels.shape)
    assert BANDS_HZ[band] == 4000 and hop > SAMPLE_RATE // 2 // HOP


def test_louder_is_red_and_quieter_blue_in_the_picture_of_a_change() -> None:
    before = np.full((4, 4), 64, np.uint8)
    after = before.copy()
    after[0], after[1] = 110, 20
    red, blue, same = change_panel("", before, after).picture[:3, 0].astype(int)
    assert red[0] > red[2] and blue[2] > blue[0] and list(same) == [255, 255, 255]
    assert to_png([level_panel("x", before)], 0.01).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("folder", "takes one file, and folder is a folder"),
        ("-", "cannot be standard input"),
        ("long.wav", "long.wav has 601 s; expected at most 600"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_the_work(
    source: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    audio.write("folder/a.wav", np.zeros(4800, np.float32), SAMPLE_RATE)
    audio.write("long.wav", np.zeros(601 * 8000, np.float32), 8000)
    out = "out" if source == "folder" else "out.wav"
    assert command.main([source, out, "--explain", "why"]) == 2
    assert message in capsys.readouterr().err
    assert not Path(out).exists() and not Path("why.json").exists()
