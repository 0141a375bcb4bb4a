"""The GPU benchmark runs through without a GPU, and one bad case leaves the others alone."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.cases import CASES, QUICK, Case, run_case
from benchmarks.gpu.setting import Setting
from tests.conftest import ROOT

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def run(out: Path, *options: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and every line of the results."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu.__main__",
        "--quick",
        "--device",
        "cpu",
        "--out",
    ]
    process = subprocess.run(
        [*command, str(out), *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    lines = (out / "results.jsonl").read_text().splitlines()
    return process.returncode, [json.loads(line) for line in lines]


def cases_with(lines: Sequence[dict[str, Any]], key: str) -> list[str]:
    return [line["case"] for line in lines if key in line]


def test_a_failed_case_is_told_by_name_and_the_rest_go_on(tmp_path: Path) -> None:
    cases = "environment,sync/loader,data/wav/full,parity/outputs,graphs/generator"
    code, lines = run(
        tmp_path, "--cases", cases, "--data", "nothing/manifest.json", "--commit", "abc"
    )
    assert code == 1
    assert lines[0]["commit"] == "abc"
    assert cases_with(lines, "took") == ["environment", "sync/loader", "parity/outputs"]
    assert cases_with(lines, "failed") == ["data/wav/full/2workers"]
    assert cases_with(lines, "skipped") == ["graphs/generator"]
    (failure,) = (line["failed"] for line in lines if "failed" in line)
    assert "Traceback" in failure
    figures = {line["metric"]: line["value"] for line in lines if line.get("metric")}
    assert figures["batches equal to the host's"] == 6
    assert figures["spectral, fp32: LSD 0-8 kHz"] == 0 < figures["spectral, bf16: LSD 0-8 kHz"] < 1
    assert lines[-1] == {"bench": "gpu", "ratios": {}}
    text = (tmp_path / "results.md").read_text()
    assert "| sync/loader | batches equal to the host's | 6.0 | of 6 |" in text
    assert "## Failed\n\n- data/wav/full/2workers: FileNotFoundError" in text


def test_what_no_longer_fits_is_told_as_skipped(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "--minutes", "0")
    assert code == 0
    assert cases_with(lines, "skipped") == list(QUICK)
    assert not cases_with(lines, "took")


def test_names_are_distinct_and_the_quick_ones_are_among_them() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) and set(QUICK) < set(names)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name.startswith(("sync/", "train/", "step/full/", "denoiser"))],
    ids=lambda case: case.name,
)
def test_training_on_a_gpu(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No step waits for the device; a step runs in every precision; the command resumes."""
    run_case(case, Setting(torch.device("cuda"), True, tmp_path, ()))
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line[:1] == "{"]
    assert cases_with(lines, "took") == [case.name], lines[-1]
