"""The benchmarks of shard preparation run end to end, and the script beside ours makes the same pairs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.align import MAX_OFFSET, dot_product_offset
from benchmarks.per_clip_script import read_part, run_script
from benchmarks.prep import Turn, compare_rates, weigh
from benchmarks.stages import STAGES, stage_clocks
from shard_tools.make import shard as make
from shard_tools.make.shard import ShardTask
from shard_tools.mix import mixture as mix
from shard_tools.plan.plan import Piece
from shard_tools.plan.recipes import Recipe
from shard_tools.scan.catalogue import Clip
from tests.conftest import ROOT
from tests.help.official_deepfilternet import INSTALLED
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.voice import voice


def lines_of(name: str, *options: str) -> list[dict[str, Any]]:
    """Return the lines that a benchmark prints, read as JSON."""
    result = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    lines: list[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(line["bench"] == name for line in lines)
    assert lines[0]["commit"]
    for line in lines[1:-1]:
        assert line.keys() == {"bench", "case", "metric", "value", "unit"} or "note" in line
    assert lines[-1].keys() == {"bench", "ratios"}
    return lines


def figures(lines: list[dict[str, Any]], metric: str) -> dict[str, float]:
    return {line["case"]: line["value"] for line in lines if line.get("metric") == metric}


def test_prep_accounts_for_all_of_its_time(corpus: Path) -> None:
    lines = lines_of("prep", "--quick", "--data", str(corpus), "--shards", "2")
    shares = figures(lines, "share")
    assert shares.keys() == {stage for stage, _, _ in STAGES} | {"rest"}
    assert sum(shares.values()) == pytest.approx(100, abs=0.1)
    speeds = figures(lines, "speed")
    slowest = min(speeds[stage] for stage in shares if shares[stage])
    assert 0 < speeds["ours"] < slowest
    ratios = lines[-1]["ratios"]
    assert 100 * ratios["denoiser_share_of_ours"] == pytest.approx(shares["denoise"], rel=0.01)
    assert ("ours_to_script" in ratios) == ("script" in speeds) == INSTALLED
    assert ratios["memory_growth"] >= 0.5
    assert figures(lines, "peak memory")["worker, full shards"] > 0.1


def test_rates_are_compared_round_by_round() -> None:
    ours = [Turn(1, 10.0, cpu, 99.0) for cpu in (1.0, 2.0, 40.0)]
    theirs = [Turn(1, 5.0, cpu, 1.0) for cpu in (1.0, 2.0, 60.0)]
    assert compare_rates(ours, theirs) == 2.0


def test_memory_is_weighed_in_bytes() -> None:
    weight = weigh()
    assert weight.worker == os.getpid()
    assert 1e7 < weight.own <= 1.01 * weight.peak < 1e12


def test_align_counts_every_kind_of_noise(tmp_path: Path) -> None:
    for role in ("speech", "noise"):
        (tmp_path / role).mkdir()
        for seed in range(2):
            wave = voice(5.5, np.random.default_rng(seed))
            soundfile.write(tmp_path / role / f"{seed}.flac", wave, SAMPLE_RATE)
    lines = lines_of("align", "--quick", "--pairs", "2", "--data", str(tmp_path))
    right = figures(lines, "right")
    assert len(right) == 2 * 2 * 5 * 2 + 4  # sides, lengths, noises, SNRs; and each side and length
    assert right["noisy, 4 s"] > 75
    assert figures(lines, "strangers refused")["denoised, 4 s"] > 75


@pytest.mark.parametrize("offset", [-700, 0, 1, 300])
def test_dot_product_finds_the_offset_and_its_sign(offset: int) -> None:
    wave = voice(1.5, np.random.default_rng(0))
    clean, degraded = wave[MAX_OFFSET:-MAX_OFFSET], wave[MAX_OFFSET - offset :]
    assert dot_product_offset(clean, degraded[: len(clean)]) == offset


def test_clocks_change_no_result_and_leave_nothing_behind() -> None:
    wave = voice(1.0, np.random.default_rng(1))
    request = mix.Request(5.0, -25.0)
    before = [getattr(owner, name) for _, owner, name in STAGES]
    plain = mix.mix(wave, wave, wave[::-1].copy(), request)
    with pytest.raises(KeyError), stage_clocks(STAGES) as times:
        under_clocks = mix.mix(wave, wave, wave[::-1].copy(), request)
        make.estimate_offset(wave, wave, 960)
        raise KeyError
    assert plain is not None and under_clocks is not None
    np.testing.assert_array_equal(plain.noisy, under_clocks.noisy)
    assert {stage for stage, seconds in times.items() if seconds > 0} == {"mix", "align"}
    assert [getattr(owner, name) for _, owner, name in STAGES] == before


def test_script_makes_pairs_at_the_ratio_and_offset_asked_for(corpus: Path, tmp_path: Path) -> None:
    path = sorted((corpus / "speech").iterdir())[0]
    clip = Clip(path.name, path.stat().st_size, "")
    pieces = tuple(Piece(clip, start, 96_000, 0) for start in (0, 60_000))
    recipes = tuple(Recipe(6.0, -25.0, (), room) for room in (None, 0))
    inputs = []

    def late(noisy: Any) -> Any:
        inputs.append(noisy)
        return np.roll(noisy, 40)

    task = ShardTask("train", 0, pieces, recipes, (0,))
    pairs, speech = run_script(task, corpus, str(path.parent), late, tmp_path / "made")
    assert (pairs, speech) == (2, 4.0)
    assert json.loads((tmp_path / "made/0.json").read_text())["offset"] == 40
    clean, rate = soundfile.read(tmp_path / "made/0.clean.flac", dtype="float32")
    assert rate == SAMPLE_RATE and len(clean) == 96_000
    ratio = np.mean(clean**2) / np.mean((inputs[0] - clean) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(6.0, abs=0.1)


def test_script_resamples_what_it_reads(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", tone, 44_100)
    wave = read_part(str(tmp_path / "tone.wav"), 12_000, 24_000)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert spectrum.argmax() * SAMPLE_RATE / len(wave) == 1000
