"""Copies of a corpus at other speeds."""

import json
from pathlib import Path

import numpy as np
import pytest

from shard_tools.speed.command import copy_at_speeds, main
from timbre import audio
from timbre.audio import SAMPLE_RATE
from timbre.errors import ConfigError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    tone = (0.5 * np.sin(2 * np.pi * 800 * time)).astype(np.float32)
    audio.write(tmp_path / "speech/anna/one.flac", tone, SAMPLE_RATE)
    return tmp_path / "speech"


def test_pitch_and_pace_move_together_and_the_speaker_keeps_the_name(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "more"
    assert copy_at_speeds(str(source), str(target), [0.875, 1.0, 1.125], workers=1) == 3
    rows = [json.loads(line) for line in (target / "manifest.jsonl").read_text().splitlines()]
    assert {row["speaker"] for row in rows} == {"anna"}
    assert [row["file"] for row in rows] == [f"{s}/anna/one.flac" for s in ("0.875", "1.125", "1")]
    for row in rows:
        speed = float(row["file"].split("/")[0])
        wave = audio.read_mono(target / row["file"])
        assert len(wave) == pytest.approx(SAMPLE_RATE / speed, abs=1)
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
        loudest = spectrum.argmax() * SAMPLE_RATE / len(wave)
        assert loudest == pytest.approx(800 * speed, abs=1.5)
    assert np.array_equal(
        audio.read_mono(target / rows[2]["file"]), audio.read_mono(source / "anna/one.flac")
    )


def test_a_rerun_leaves_the_copies_that_are_there(source: Path, tmp_path: Path) -> None:
    main([str(source), str(tmp_path / "more"), "--speeds", "0.9", "--workers", "1"])
    copy = tmp_path / "more/0.9/anna/one.flac"
    before = copy.stat().st_mtime_ns
    assert main([str(source), str(tmp_path / "more"), "--speeds", "0.9", "--workers", "1"]) == 0
    assert copy.stat().st_mtime_ns == before


def test_a_speed_at_which_nobody_speaks_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"speed 3: expected 0\.7 to 1\.4"):
        copy_at_speeds(str(source), str(tmp_path / "more"), [3], workers=1)
    assert not (tmp_path / "more").exists()


def test_a_copy_keeps_what_prep_reads_of_its_row(source: Path, tmp_path: Path) -> None:
    row = {"file": "anna/one.flac", "speaker": "anna", "kind": "speech", "split_hint": "val"}
    (source / "manifest.jsonl").write_text(json.dumps(row | {"pause_db": -41.5, "mood": "glad"}))
    copy_at_speeds(str(source), str(tmp_path / "more"), [0.9], workers=1)
    copy = json.loads((tmp_path / "more/manifest.jsonl").read_text())
    assert copy == row | {"file": "0.9/anna/one.flac", "pause_db": -41.5, "licence": None}
