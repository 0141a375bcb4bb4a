"""The command line: what it prints, and what it refuses."""

import json
import sys
from pathlib import Path

import pytest

from tests.help.evaluations import run
from timbre.evaluate import command as evaluate
from timbre.evaluate import figures


def test_figures_whose_package_is_missing_are_left_out_and_named_once(
    manifest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for package in {name for metric in figures.METRICS for name in metric.packages}:
        monkeypatch.setitem(sys.modules, package, None)
    words = ["none", "--data", manifest, "--out", str(tmp_path), "--max-pairs", "1"]
    assert evaluate.main([*words, "--workers", "1", "--harm-pairs", "0"]) == 0
    values = json.loads((tmp_path / "metrics.json").read_text())["main"]["systems"]["df3"]
    assert "pesq" not in values and "dnsmos_sig" not in values and "si_sdr" in values
    output = capsys.readouterr().out
    for package in ("pesq", "zimtohrli", "visqol-python", "distillmos", "Resemblyzer"):
        assert output.count(f"needs the package {package}: pip install 'timbre[") == 1
    assert evaluate.main([*words, "--figures", "pesq"]) == 2
    assert "pesq: PESQ needs the package" in capsys.readouterr().err


def test_the_terminal_shows_the_verdict_and_a_table_that_fits(
    manifest: str, better_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a_run_with_a_very_long_name"
    run([f"{name}={better_run.parent / 'g.safetensors'}"], manifest, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    (verdict,) = (line for line in lines if line.startswith(name) and " against " in line)
    assert "HELPS against df3 over 8 pairs of 8 speakers. Better: " in verdict
    head = next(n for n, line in enumerate(lines) if line.startswith("figure"))
    table = lines[head : lines.index(f"written: {tmp_path}")]
    assert all(len(line) <= 100 for line in table) and len(table) <= 13
    row = next(line.split() for line in table if line.startswith("lsd_0_8k"))
    assert row[-1] == "better"


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"systems": "nothing.safetensors"}, (1, "nothing.safetensors")),
        ({"systems": "foreign.safetensors"}, (1, "not a generator of timbre")),
        ({"systems": "noisy"}, (2, "holds no noisy side, which noisy need")),
        ({"--data": "nowhere"}, (2, "nowhere: expected a manifest")),
        ({"--split": "test"}, (1, "no shards in split 'test'")),
        ({"--out": "foreign.safetensors/out"}, (1, "foreign.safetensors")),
        ({"--figures": "si_sdr,loudness"}, (2, "--figures loudness: expected some of pesq")),
        ({"--speaker-pattern": "("}, (2, "--speaker-pattern '('")),
        ({"--speaker-pattern": "p"}, (2, "expected a (group)")),
    ],
)
def test_bad_usage_is_refused_with_its_exit_code(
    change: dict[str, str],
    refusal: tuple[int, str],
    manifest: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("foreign.safetensors").write_bytes(b"no such thing")
    options = {"systems": "none", "--data": manifest, "--out": "out", **change}
    systems = options.pop("systems")
    argv = [systems, *(word for option in options.items() for word in option)]
    code, message = refusal
    assert evaluate.main(argv) == code
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
