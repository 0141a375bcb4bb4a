"""How many processor cores the machine grants this process: CPU affinity and cgroup quota."""

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def granted_cores(root: Path = ROOT) -> int:
    """Return how many cores this process may keep busy.

    Affinity (``taskset``, Slurm, cpusets) says which cores; a cgroup's quota (Docker, Kubernetes,
    systemd) says how much of them. A part of a core counts as one, as Go, Java and joblib count.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    affinity = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(root)]
    return max(min([affinity, *quotas]), 1)


def _quotas(root: Path) -> Iterator[float]:
    """Yield every quota, in cores, of the cgroups of this process and of those around them."""
    for folder in cgroup_folders(root, "cpu"):
        if maximum := _words(folder / "cpu.max"):  # version 2: "150000 100000" or "max 100000"
            if maximum[0] != "max":
                yield int(maximum[0]) / int(maximum[1])
            continue
        quota = _words(folder / "cpu.cfs_quota_us")  # version 1: -1 is no quota
        period = _words(folder / "cpu.cfs_period_us")
        if quota and period and int(quota[0]) > 0:
            yield int(quota[0]) / int(period[0])


def cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's cgroups, from the innermost to the mount.

    Args:
        root: where ``proc`` and ``sys`` lie.
        controller: of version 1, such as ``cpu``; version 2 has one group for all.
    """
    groups = dict(_groups(root))
    for line in _lines(root / "proc/self/mountinfo"):
        # "36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
        before, _, after = line.partition(" - ")
        top, mount = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup2":
            group = groups.get("")
        elif kind == "cgroup" and controller in options.split(","):
            group = groups.get(controller)
        else:
            continue
        if group is None:
            continue
        at = root / mount.lstrip("/")
        # In a container the mount shows one group of the host's, whose path is ``top``.
        inner = os.path.relpath(group, top)
        folder = at if inner.startswith("..") else at / inner
        yield folder
        yield from (outer for outer in folder.parents if outer.is_relative_to(at))


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the group of each controller of version 1, and of "", version 2."""
    for line in _lines(root / "proc/self/cgroup"):  # "4:cpu,cpuacct:/docker/3f2a", "0::/"
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, group


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # not Linux, or not to be read
        return []


def _words(path: Path) -> list[str]:
    lines = _lines(path)
    return lines[0].split() if lines else []
