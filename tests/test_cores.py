"""How many cores the machine grants: affinity, and quotas of cgroups of both versions."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from timbre.cores import granted_cores

COUNT = "from timbre.cores import granted_cores; print(granted_cores())"
V1 = Path("/sys/fs/cgroup/cpu")
AFFINITY = len(os.sched_getaffinity(0))


def machine(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """Return a root with a process's groups, mounts and the files of cgroups."""
    texts = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def v2(root: Path, group: str, files: dict[str, str]) -> Path:
    mount = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
    return machine(root, f"0::{group}\n", mount, files)


def v1(root: Path, group: str, top: str, files: dict[str, str]) -> Path:
    mount = f"32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    return machine(root, f"5:cpuset:/\n4:cpu,cpuacct:{group}\n", mount, files)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 cores, so that only quotas bound."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


@pytest.mark.usefixtures("wide")
class TestQuotas:
    def test_a_quota_of_version_2_bounds(self, tmp_path: Path) -> None:
        files = {"sys/fs/cgroup/job/cpu.max": "400000 100000\n"}
        assert granted_cores(v2(tmp_path, "/job", files)) == 4

    def test_a_quota_of_an_outer_group_bounds_too(self, tmp_path: Path) -> None:
        files = {
            "sys/fs/cgroup/slice/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/slice/job/cpu.max": "max 100000\n",
        }
        assert granted_cores(v2(tmp_path, "/slice/job", files)) == 2

    def test_a_container_of_version_2_sees_its_own_group_as_the_root(self, tmp_path: Path) -> None:
        assert granted_cores(v2(tmp_path, "/", {"sys/fs/cgroup/cpu.max": "300000 100000\n"})) == 3

    def test_a_quota_of_version_1_bounds(self, tmp_path: Path) -> None:
        group = "sys/fs/cgroup/cpu,cpuacct/job"
        files = {f"{group}/cpu.cfs_quota_us": "500000\n", f"{group}/cpu.cfs_period_us": "100000\n"}
        assert granted_cores(v1(tmp_path, "/job", "/", files)) == 5

    def test_a_container_of_version_1_has_its_group_mounted(self, tmp_path: Path) -> None:
        group = "sys/fs/cgroup/cpu,cpuacct"
        files = {f"{group}/cpu.cfs_quota_us": "200000\n", f"{group}/cpu.cfs_period_us": "100000\n"}
        assert granted_cores(v1(tmp_path, "/docker/3f2a", "/docker/3f2a", files)) == 2

    def test_a_part_of_a_core_counts_as_one(self, tmp_path: Path) -> None:
        assert granted_cores(v2(tmp_path, "/", {"sys/fs/cgroup/cpu.max": "150000 100000\n"})) == 2
        assert granted_cores(v2(tmp_path, "/", {"sys/fs/cgroup/cpu.max": "10000 100000\n"})) == 1

    def test_no_quota_grants_what_affinity_does(self, tmp_path: Path) -> None:
        group = "sys/fs/cgroup/cpu,cpuacct"
        files = {f"{group}/cpu.cfs_quota_us": "-1\n", f"{group}/cpu.cfs_period_us": "100000\n"}
        assert granted_cores(v1(tmp_path / "1", "/", "/", files)) == 16
        assert granted_cores(v2(tmp_path / "2", "/", {})) == 16
        assert granted_cores(tmp_path / "nothing there") == 16


@pytest.fixture
def half_a_core() -> Iterator[Path]:
    """A real cgroup with a quota of half a core."""
    group = V1 / f"timbre-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("50000")
    except OSError as error:
        pytest.skip(f"no cgroup of version 1 can be made here: {error}")
    yield group
    group.rmdir()


def test_a_real_quota_bounds(half_a_core: Path) -> None:
    join = f"open('{half_a_core}/tasks', 'w').write('0'); "
    answer = subprocess.run(
        [sys.executable, "-c", join + COUNT], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "1"


@pytest.mark.skipif(AFFINITY < 2, reason="needs two cores")
def test_affinity_bounds() -> None:
    pin = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); "
    answer = subprocess.run(
        [sys.executable, "-c", pin + COUNT], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "1"
