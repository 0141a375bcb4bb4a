"""Stress: what a probe holds, and what is harm."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.help.evaluations import save_with_gain
from timbre import audio
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError
from timbre.evaluate import command as evaluate
from timbre.evaluate.cases import Labels
from timbre.evaluate.measure import STRESS, Row
from timbre.evaluate.stress import figures, probes
from timbre.evaluate.stress.harm import excess, to_rows
from timbre.evaluate.stress.probes import ALONE, CLEAN, GAP, LEVEL, SILENCE, SPEECH, START, Probe

LABELS = Labels(None, None, None, None, None)


def test_every_part_of_the_table_has_rows_and_every_probe_a_key_of_its_own() -> None:
    all_probes = probes.list_probes(None)
    assert {probe.part for probe in all_probes} == {
        ALONE,
        SPEECH,
        CLEAN,
        LEVEL,
        START,
        GAP,
        SILENCE,
    }
    assert len({probe.key for probe in all_probes}) == len(all_probes)
    voices = [probe.voice for probe in all_probes if probe.row == "white, speech 20 dB above"]
    assert voices == list(range(probes.VOICES))


@pytest.mark.parametrize("level_db", [-70, -20])
def test_noise_alone_has_its_level_and_nobody_speaks(level_db: int) -> None:
    pair = probes.load(Probe(ALONE, "blue", level_db))
    assert pair.noisy is not None and not pair.clean.any()
    assert audio.level_db(pair.noisy.numpy()) == pytest.approx(level_db, abs=0.01)


@pytest.mark.parametrize("snr_db", [0, 40])
def test_speech_stands_so_far_above_the_noise(snr_db: int) -> None:
    pair = probes.load(Probe(SPEECH, "hum", snr_db))
    assert pair.noisy is not None
    noise_db = audio.level_db((pair.noisy - pair.clean).numpy())
    assert audio.active_level_db(pair.clean.numpy()) - noise_db == pytest.approx(snr_db, abs=0.05)


def test_levels_gaps_and_starts_are_what_their_names_say() -> None:
    loud = probes.load(Probe(LEVEL, "pink", -3)).noisy
    assert loud is not None and loud.abs().max() == pytest.approx(10 ** (-3 / 20), rel=1e-3)
    clean = probes.load(Probe(GAP, "pink", 5)).clean
    silent = np.flatnonzero(clean.numpy())
    assert np.diff(silent).max() >= 5 * SAMPLE_RATE
    first = probes.load(Probe(START, "white", 20)).clean[:480]
    assert first.abs().max() > 1e-3
    assert not probes.load(Probe(SILENCE)).noisy.any()


def test_recordings_speak_in_place_of_made_up_voices(tmp_path: Path) -> None:
    for number in range(6):
        wave = voice(2.0, np.random.default_rng(number))
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * wave, SAMPLE_RATE)
    clean_probes = [p for p in probes.list_probes(str(tmp_path)) if p.part == CLEAN]
    assert len({probe.recording for probe in clean_probes}) == 2 * probes.VOICES
    clean = probes.load(clean_probes[0]).clean.numpy()
    assert audio.active_level_db(clean) == pytest.approx(-25, abs=0.2)


def test_a_folder_without_recordings_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--speech {tmp_path}: expected a folder"):
        probes.list_probes(str(tmp_path))


def test_what_is_left_of_noise_is_measured_as_a_level_and_its_bursts() -> None:
    wave = torch.zeros(2 * SAMPLE_RATE)
    wave[:4800] = 0.1
    values, troubles = figures.measure(wave, torch.zeros(2 * SAMPLE_RATE))
    assert values["residue_db"] == pytest.approx(-20 + 10 * math.log10(0.05), abs=0.01)
    assert values["burst_db"] == pytest.approx(-20, abs=0.01) and not troubles


def test_pauses_and_gain_are_measured_against_the_speech() -> None:
    clean = probes.load(Probe(CLEAN)).clean
    noise = 0.001 * torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    values, _ = figures.measure(0.5 * clean + noise, clean)
    assert values["gain_db"] == pytest.approx(-6.02, abs=0.05)
    assert values["pauses_db"] == pytest.approx(-60 + 25, abs=0.5)


def test_an_output_that_is_not_finite_is_harm() -> None:
    clean = probes.load(Probe(CLEAN)).clean
    values, troubles = figures.measure(clean * torch.nan, clean)
    assert troubles == ["is not finite"]
    assert all(excess(name, value, 0.0) == math.inf for name, value in values.items())


@pytest.mark.parametrize(
    ("name", "value", "baseline", "harm"),
    [
        ("residue_db", -31.0, -74.0, True),
        ("residue_db", -72.0, -74.0, False),
        ("residue_db", -81.0, -120.0, False),  # nobody hears it
        ("residue_db", -79.0, -120.0, True),
        ("pesq", 2.0, 2.2, True),
        ("pesq", 2.15, 2.2, False),
        ("pesq", math.nan, 2.2, True),
        ("pesq", 2.0, math.nan, False),
        ("gain_db", -2.0, 0.5, True),
        ("gain_db", 0.9, 0.0, False),
        ("si_sdr", 18.0, 23.0, True),
    ],
)
def test_harm_is_what_is_worse_than_df3_by_more_than_the_bound(
    name: str, value: float, baseline: float, harm: bool
) -> None:
    assert (excess(name, value, baseline) > 0) == harm


def test_a_row_is_the_mean_of_its_voices_and_names_its_harm() -> None:
    two_probes = [Probe(SPEECH, "white", 20.0, voice) for voice in range(2)]
    rows = [
        Row(probe.key, 1.0, LABELS, {STRESS: {"df3": {"pesq": 3.0}, "x": {"pesq": pesq}}}, [])
        for probe, pesq in zip(two_probes, (2.6, 3.1), strict=True)
    ]
    (row,) = to_rows(two_probes, rows)
    assert row.name == "white, speech 20 dB above" and row.values["x"]["pesq"] == 2.85
    assert row.harms == {"x": {"pesq": pytest.approx(0.05)}}


def test_a_generator_that_lets_noise_through_is_named_and_one_that_changes_nothing_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud = save_with_gain(tmp_path / "loud.safetensors", math.log(4))
    same = save_with_gain(tmp_path / "same.safetensors", 0.0)
    words = [f"loud={loud}", f"same={same}", "--stress", "--max-probes", "6", "--workers", "1"]
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    tree = json.loads((tmp_path / "out/metrics.json").read_text())["stress"]
    assert f"HARM, loud is worse than df3 in {len(tree['harm']['loud'])} of" in output
    assert "no harm, same is nowhere worse than df3" in output
    assert tree["harm"]["same"] == {} and tree["harm"]["loud"]
    lines = list(csv.DictReader((tmp_path / "out/stress.csv").open()))
    assert {line["system"] for line in lines} == {"noisy", "df3", "df3+10%", "loud", "same"}
    name = next(iter(tree["harm"]["loud"]))
    assert name in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "nothing to measure: expected --data, --stress or both"),
        (["none", "--data", "x", "--speech", "y"], "--speech: needs --stress"),
    ],
)
def test_bad_usage_is_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
