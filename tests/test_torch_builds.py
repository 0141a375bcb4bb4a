"""Which torchaudio loads beside which torch, and the message where it does not."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import ROOT
from timbre.cli import COMMANDS
from timbre.torch_builds import SPANS, remedy

# Doors other than `timbre COMMAND`.
MODULES = ("timbre.train", "shard_tools.speed")
# What torchaudio 2.11.1 does beside torch 2.11: its library does not load.
BROKEN_TORCHAUDIO = "raise OSError('Could not load this library: libtorchaudio.so')\n"


def test_the_remedy_leaves_torch_wherever_a_torchaudio_loads_beside_it() -> None:
    assert remedy("2.11.0", "2.11.1") == "pip install torchaudio==2.11.0"
    assert remedy("2.12.1", "2.11.1") == "pip install torchaudio==2.11.0"
    assert remedy("2.15.0", "2.11.0") == "pip install torchaudio==2.11.1"
    assert remedy("2.13.0", None) == "pip install torchaudio==2.11.1"


def test_the_remedy_brings_a_pair_where_no_torchaudio_is_known() -> None:
    newest = f"pip install torch=={SPANS[-1].highest} torchaudio=={SPANS[-1].torchaudio}"
    for torch in ("2.10.0", "2.99.0", None):
        assert remedy(torch, "2.11.1") == newest


def test_a_build_for_one_device_takes_torchaudio_from_the_same_index() -> None:
    command = remedy("2.13.0+cpu", "2.11.1")
    assert "--index-url https://download.pytorch.org/whl/cpu" in command
    assert "--force-reinstall" in command  # the same release is there, of another build


def test_every_command_names_the_remedy_instead_of_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text(BROKEN_TORCHAUDIO)
    doors = [["timbre", command] for command in COMMANDS] + [[module] for module in MODULES]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", *door],
            cwd=ROOT,
            env={"PYTHONPATH": str(tmp_path), "LANG": "C.UTF-8"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for door in doors
    ]
    command = remedy(version("torch"), version("torchaudio"))
    for door, process in zip(doors, running, strict=True):
        _, errors = process.communicate()
        assert process.returncode == 2, door
        assert errors.startswith("timbre: error: torch "), (door, errors)
        assert errors.count("\n") == 1 and command in errors, (door, errors)


def test_a_launcher_prints_the_remedy_once(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text(BROKEN_TORCHAUDIO)
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "timbre.train", "config.yaml"],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode != 0
    assert process.stderr.count("do not load together") == 1


def test_the_page_on_installing_has_the_table_of_builds() -> None:
    page = (ROOT / "docs/install.md").read_text()
    for span in SPANS:
        assert f"| {span.torchaudio} | {span.lowest} | {span.highest} |" in page


@pytest.mark.skipif(sys.platform != "linux", reason="the table is of Linux")
def test_what_is_installed_here_is_in_the_table() -> None:
    release = version("torchaudio")
    assert release in {span.torchaudio for span in SPANS}
