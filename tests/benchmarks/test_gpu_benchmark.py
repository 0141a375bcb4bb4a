"""The GPU benchmark runs through without a GPU, and one bad case leaves the others alone."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from benchmarks.gpu.__main__ import done
from benchmarks.gpu.cases import CASES, Case, run_case
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


class Call(NamedTuple):
    """A call of the benchmark: where it wrote, how it ended, its lines, and its table."""

    out: Path
    code: int
    lines: list[dict[str, Any]]
    text: str


def cases_with(lines: Sequence[dict[str, Any]], key: str) -> list[str]:
    return [line["case"] for line in lines if key in line]


@pytest.fixture(scope="module")
def first_call(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Four cases, of which one cannot find its data."""
    cases = "environment,sync/loader,data/wav/light,parity/outputs"
    out = tmp_path_factory.mktemp("gpu")
    options = ["--cases", cases, "--data", "nothing/manifest.json", "--commit", "abc"]
    return Call(out, *run(out, *options), (out / "results.md").read_text())


def test_a_failed_case_is_told_by_name_and_the_rest_go_on(first_call: Call) -> None:
    _, code, lines, text = first_call
    assert code == 1
    assert lines[0]["commit"] == "abc"
    assert cases_with(lines, "took") == ["environment", "sync/loader", "parity/outputs"]
    assert cases_with(lines, "failed") == ["data/wav/light/8workers"]
    (failure,) = (line["failed"] for line in lines if "failed" in line)
    assert "Traceback" in failure
    figures = {line["metric"]: line["value"] for line in lines if line.get("metric")}
    assert figures["batches equal to the host's"] == 6
    assert figures["spectral, fp32: LSD 0-8 kHz"] == 0 < figures["spectral, bf16: LSD 0-8 kHz"] < 1
    assert lines[-1] == {"bench": "gpu", "ratios": {}}
    assert "| sync/loader | batches equal to the host's | 6.0 | of 6 |" in text
    assert "## Failed\n\n- data/wav/light/8workers: FileNotFoundError" in text


def test_what_no_longer_fits_is_told_as_skipped(tmp_path: Path) -> None:
    code, lines = run(tmp_path, "--minutes", "0")
    assert code == 0
    assert cases_with(lines, "skipped") == [case.name for case in CASES]
    assert not cases_with(lines, "took")


# One of each kind; what other tests run anyway is left to `--quick --device cpu` by hand.
KINDS = (
    *(
        "environment",
        "parity/graph",
        "step/light/bf16/32x1s",
        "dac/bf16",
        "data/flac/full/2workers",
    ),
    *("curves/graph", "parts/full/bf16/64x2s", "sync/spectral/bf16", "parity/outputs"),
)


@pytest.mark.timeout(900)  # it starts processes, which other work on the machine slows down
def test_each_kind_of_case_runs_and_a_second_call_goes_on_with_what_is_left(
    first_call: Call,
) -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) and {*KINDS} < {*names}
    earlier = cases_with(first_call.lines, "took")
    assert {*earlier} & {*KINDS} == {"environment", "parity/outputs"}
    code, lines = run(first_call.out, "--cases", ",".join(KINDS), "--commit", "abc")
    assert code == 0, [line for line in lines if "failed" in line]
    assert sorted(cases_with(lines, "took")) == sorted({*KINDS, *earlier})
    figures = {(line["case"], line["metric"]): line["value"] for line in lines if "metric" in line}
    # Through the same memory, without a capture, a step is the very same.
    assert figures["parity/graph", "graph: loss against eager"] == 0
    assert figures["curves/graph", "apart at the end"] == 0
    assert figures["step/light/bf16/32x1s", "eager_to_graph"] > 0
    table = (first_call.out / "results.md").read_text()
    assert "| curves/graph | apart at the end | 0.0 | of the loss |" in table


def test_what_is_done_is_done_of_one_commit(tmp_path: Path) -> None:
    assert done(tmp_path, "abc") == set()
    lines: list[dict[str, Any]] = [
        {"bench": "gpu", "commit": "abc"},
        {"bench": "gpu", "case": "one", "took": 1.0},
        {"bench": "gpu", "case": "two", "failed": "Traceback"},
        {"bench": "gpu", "commit": "def"},
        {"bench": "gpu", "case": "three", "took": 1.0},
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert done(tmp_path, "abc") == {"one"}
    assert done(tmp_path, "def") == {"three"}


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
