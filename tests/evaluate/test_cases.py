"""Which pairs are measured, and what is known of them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.help.evaluations import (
    PAIRS,
    QUICK,
    lines_of,
    noisy_folder,
    run,
    save_with_gain,
    write_stereo,
)
from tests.help.made_shards import change_manifest, make_shards
from tests.shards.test_foreign import pairs as foreign_pairs
from tests.shards.test_foreign import write as write_foreign
from timbre.evaluate import command as evaluate
from timbre.evaluate.cases import noise_kind


def test_pairs_are_told_apart_by_what_is_known_of_them(better_run: Path) -> None:
    groups = json.loads((better_run / "metrics.json").read_text())["groups"]
    assert list(groups["snr"]) == ["0 to 5 dB", "5 to 10 dB", "10 to 15 dB", "15 to 20 dB", "20 to 30 dB"]  # fmt: skip
    assert list(groups["bandwidth"]) == ["of 20 kHz and more", "under 20 kHz"]
    assert set(groups["noise"]) == {"babble", "rain"} and set(groups["room"]) == {
        "dry",
        "reverberant",
    }
    assert len(groups["speaker"]) == PAIRS
    counts = {
        value: group["systems"]["df3"]["si_sdr"]["pairs"] + group["systems"]["df3"]["si_sdr"]["left_out"]
        for value, group in groups["noise"].items()
    }  # fmt: skip
    assert counts == {"rain": 4, "babble": PAIRS - 4}
    lines = lines_of(better_run / "groups.csv")
    (line,) = (
        one
        for one in lines
        if one["value"] == "babble" and one["system"] == "restored" and one["figure"] == "lsd_0_8k"
    )
    group = groups["noise"]["babble"]
    assert float(line["mean"]) == group["systems"]["restored"]["lsd_0_8k"]["mean"]
    change = group["minus_df3"]["restored"]["lsd_0_8k"]
    assert float(line["difference"]) == change["mean"] and line["verdict"] == change["verdict"]


def test_noises_are_called_by_their_folder_or_by_their_name_without_a_number() -> None:
    assert noise_kind("babble-val-0003") == "babble"
    assert noise_kind("noise/amb_trade_20.flac") == "amb_trade"
    assert noise_kind("noise/PRESTO/ch01.wav") == "PRESTO"
    assert noise_kind("17.wav") == "17"


def test_a_folder_of_stereo_files_at_44_khz_is_denoised_and_measured(tmp_path: Path) -> None:
    data = noisy_folder(tmp_path / "data", files=2)
    checkpoint = save_with_gain(tmp_path / "g.safetensors", -1.0)
    systems = run(checkpoint, data, tmp_path / "out")["main"]["systems"]
    assert list(systems) == ["noisy", "df3", "df3+10%", "restored"]
    assert systems["df3"]["si_sdr"]["mean"] > systems["noisy"]["si_sdr"]["mean"] + 1
    assert systems["restored"]["lsd_0_8k"]["mean"] > systems["df3"]["lsd_0_8k"]["mean"]


def test_speakers_of_a_folder_are_its_folders_or_what_a_pattern_finds(tmp_path: Path) -> None:
    data = noisy_folder(tmp_path / "data", files=2)
    si_sdr = ("--figures", "si_sdr")
    assert run("none", data, tmp_path / "out", *si_sdr)["speakers"] == 1
    metrics = run("none", data, tmp_path / "out", *si_sdr, "--speaker-pattern", r"/(\d)\.wav")
    assert metrics["speakers"] == 2 and metrics["pairs_of_unknown_speakers"] == 0


def test_tars_of_others_are_measured_though_little_is_known_of_them(tmp_path: Path) -> None:
    metas = [{}, {"speaker": 7, "snr_db": "loud", "noises": ["rain.wav"]}]
    pairs = [
        {**pair, "pair.json": {"alignment_offset": 3, **more}}
        for pair, more in zip(foreign_pairs(0, 2), metas, strict=True)
    ]
    write_foreign(tmp_path / "val" / "a.tar", pairs)
    metrics = run("none", str(tmp_path), tmp_path / "out")
    assert metrics["pairs"] == metrics["pairs_of_unknown_speakers"] == 2
    assert metrics["main"]["systems"]["df3"]["si_sdr"]["speakers"] == 2
    assert set(metrics["groups"]) <= {"bandwidth"}


def test_a_limited_number_of_pairs_is_spread_over_all(manifest: str, tmp_path: Path) -> None:
    assert run("none", manifest, tmp_path, "--max-pairs", "3")["pairs"] == 3
    assert [line["pair"] for line in lines_of(tmp_path / "pairs.csv")] == [
        "val-000000-0001",
        "val-000000-0004",
        "val-000001-0000",
    ]


def test_files_of_different_length_are_refused_by_name_where_none_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = noisy_folder(tmp_path / "data")
    write_stereo(tmp_path / "data/clean/a/0.wav", np.zeros(44_099, np.float32), 44_100)
    out = tmp_path / "out"
    assert evaluate.main(["none", "--data", data, "--out", str(out), *QUICK]) == 1
    error = capsys.readouterr().err
    assert "none of 1 pairs could be measured" in error
    assert "noisy/a/0.wav: 48000 samples" in error and "47999" in error
    assert not (out / "metrics.json").exists()


def test_a_file_without_a_partner_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = noisy_folder(tmp_path / "data")
    (tmp_path / "data/clean/a/0.wav").rename(tmp_path / "data/clean/a/1.wav")
    assert evaluate.main(["none", "--data", data, "--out", str(tmp_path / "out")]) == 2
    assert "only one of noisy and clean: a/0.wav and 1 more" in capsys.readouterr().err


def test_changed_data_is_noticed(tmp_path: Path) -> None:
    """Another manifest is another version of the data."""
    manifest = make_shards(tmp_path / "shards", (1,), (2,))
    before = evaluate.cases.open_data(manifest, "val").version
    change_manifest(manifest, version=2)
    assert evaluate.cases.open_data(manifest, "val").version != before


def test_names_of_others_are_bounded_and_printable_in_all_that_is_written(tmp_path: Path) -> None:
    """One speaker's name has a megabyte; a file name is not UTF-8."""
    names = ["a" * 1_000_000, "a" * 1_000_000 + "b", "\x1b[31mred", "<script>"]
    pairs = [
        {**pair, "pair.json": {"alignment_offset": 0, "speaker": name}}
        for pair, name in zip(foreign_pairs(0, 4), names, strict=True)
    ]
    write_foreign(tmp_path / "data/val/a.tar", pairs)
    assert run("none", str(tmp_path / "data"), tmp_path / "out")["speakers"] == 4
    for file in (tmp_path / "out").iterdir():
        if file.suffix == ".html":
            continue
        text = file.read_text(encoding="utf-8")
        assert len(text) < 100_000 and "\x1b" not in text, file
    lines = lines_of(tmp_path / "out/pairs.csv")
    speakers = {line["speaker"] for line in lines}
    assert len(speakers) == 4 and "\\x1b[31mred" in speakers
    assert max(map(len, speakers)) <= 200
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "a" * 300 not in page and str(tmp_path) not in page


def test_a_file_whose_name_is_no_utf_8_is_measured(tmp_path: Path) -> None:
    data = Path(noisy_folder(tmp_path / "data"))
    for side in ("noisy", "clean"):
        (data / side / "a/0.wav").rename(os.fsdecode(os.fsencode(data / side) + b"/a/\xe9.wav"))
    assert run("none", str(data), tmp_path / "out")["pairs"] == 1
    (line, *_) = lines_of(tmp_path / "out/pairs.csv")
    assert line["pair"] == "a/\\udce9.wav"
