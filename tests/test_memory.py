"""How much memory a process may take: the free memory, within the limits of cgroups."""

from pathlib import Path

import psutil

from tests.test_cores import machine, v2
from timbre.memory import granted_memory

GIGABYTE = 1_000_000_000


def test_without_a_limit_it_is_what_the_machine_has_free(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/job/memory.max": "max\n", "sys/fs/cgroup/job/memory.current": "9\n"}
    memory = granted_memory(v2(tmp_path, "/job", files))
    assert 0 < memory <= psutil.virtual_memory().total
    assert granted_memory(tmp_path / "nothing") > GIGABYTE / 100


def test_a_limit_of_version_2_bounds_and_the_cache_of_files_gives_way(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/job/memory.max": "60000000\n",
        "sys/fs/cgroup/job/memory.current": "50000000\n",
        "sys/fs/cgroup/job/memory.stat": "anon 5\ninactive_file 20000000\nfile 30000000\n",
    }
    assert granted_memory(v2(tmp_path, "/job", files)) == 30_000_000


def test_the_narrowest_group_counts(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/slice/memory.max": "40000000\n",
        "sys/fs/cgroup/slice/memory.current": "39000000\n",
        "sys/fs/cgroup/slice/job/memory.max": "30000000\n",
        "sys/fs/cgroup/slice/job/memory.current": "10000000\n",
    }
    assert granted_memory(v2(tmp_path, "/slice/job", files)) == 1_000_000


def test_a_limit_of_version_1_bounds_and_nothing_is_less_than_none(tmp_path: Path) -> None:
    mount = "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    files = {
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "60000000\n",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "50000000\n",
        "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 1000000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "50000000\n",
    }
    root = machine(tmp_path, "7:memory:/job\n3:cpu:/other\n", mount, files)
    assert granted_memory(root) == 11_000_000
    (root / "sys/fs/cgroup/memory/job/memory.usage_in_bytes").write_text("99000000\n")
    assert granted_memory(root) == 0
