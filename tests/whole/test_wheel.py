"""The wheel: its files, and that it works without anything else of the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from tests.conftest import ROOT
from timbre import audio

SOURCES = (
    "timbre",
    "shard_tools",
    "configs",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """The wheel that `python -m build` makes of a copy of the sources."""
    pytest.importorskip("build")
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    subprocess.run(words, cwd=copy, capture_output=True, check=True)
    (path,) = (copy / "dist").glob("*.whl")
    return ZipFile(path)


def test_checkpoints_the_report_page_and_all_configs_are_inside(wheel: ZipFile) -> None:
    names = wheel.namelist()
    for path in [
        *(ROOT / "timbre/checkpoints").glob("*.safetensors"),
        *(ROOT / "timbre/evaluate/report").glob("page.*"),
        *(ROOT / "timbre/train/report").glob("page.*"),
    ]:
        assert str(path.relative_to(ROOT)) in names
    for path in (ROOT / "configs").glob("*.yaml"):
        assert any(name.endswith(f"share/timbre/configs/{path.name}") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".ci/"))]


def test_it_restores_a_file_from_an_empty_folder(wheel: ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    work = tmp_path / "work"
    noisy = np.random.default_rng(0).standard_normal(48000).astype(np.float32) / 20
    audio.write(work / "noisy.wav", noisy, 48000)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    where = [sys.executable, "-c", "import timbre; print(timbre.__file__)"]
    inside = subprocess.run(
        where, cwd=work, env=environment, capture_output=True, text=True, check=True
    )
    assert inside.stdout.startswith(str(tmp_path / "site"))
    words = [sys.executable, "-m", "timbre", "restore", "noisy.wav", "restored.wav"]
    subprocess.run(words, cwd=work, env=environment, capture_output=True, check=True)
    assert audio.read(work / "restored.wav")[0].shape == (1, len(noisy))
