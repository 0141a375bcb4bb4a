"""Every executor makes the same bytes of the same job."""

import subprocess
import sys
from pathlib import Path

import pytest

from shard_tools.verify.manifest import verify
from tests.help.small_prep import contents, write_config, write_sources
from tests.shard_tools.executors.slurm_cluster import Slurm, needs_slurm
from timbre import cli

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def local(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the local executor writes."""
    output = tmp_path_factory.mktemp("local") / "out"
    assert cli.main(["prep", str(write_config(sources, output))]) == 0
    return contents(output)


def without_config(files: dict[str, bytes]) -> dict[str, bytes]:
    """Leave out the manifests, whose config names the number of workers."""
    return {name: data for name, data in files.items() if not name.startswith("manifest")}


@pytest.mark.usefixtures("cluster")
def test_a_ray_cluster_of_two_nodes(sources: Path, local: dict[str, bytes], tmp_path: Path) -> None:
    config = write_config(sources, tmp_path / "out")
    words = [sys.executable, "-m", "timbre", "prep", str(config), "--executor", "ray"]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert contents(tmp_path / "out") == local


@needs_slurm
def test_a_slurm_array_of_three(
    slurm: Slurm, sources: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    config = write_config(sources, tmp_path / "out")
    binaries = Path(sys.executable).parent
    job = slurm.submit(
        ["--array=0-2", "--cpus-per-task=1", ROOT / "launch/slurm/prep.sbatch", config],
        PATH=f"{binaries}:/usr/bin:/bin",
    )
    states = slurm.wait(job)
    assert len(states) == 3
    logs = "\n".join(path.read_text() for path in slurm.folder.glob(f"*-{job}_*.log"))
    assert set(states.values()) == {"COMPLETED"}, logs
    assert without_config(contents(tmp_path / "out")) == without_config(local)
    assert verify(f"{tmp_path}/out/manifest.json") == []


def test_plain_shares_one_after_the_other(
    sources: Path, local: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(sources, tmp_path / "out"))
    for share in ("1/3", "2/3", "0/3"):
        assert not (tmp_path / "out/manifest.json").exists()
        assert cli.main(["prep", config, "--executor", "array", "--share", share]) == 0
    assert contents(tmp_path / "out") == local
    output = capsys.readouterr().out
    assert "share 1 of 3 is done" in output and "written:" in output
