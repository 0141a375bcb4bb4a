"""How much memory this process may still take: what the machine has free, and what its cgroups allow."""

from collections.abc import Iterator
from pathlib import Path

import psutil

from timbre.cores import ROOT, cgroup_folders


def granted_memory(root: Path = ROOT) -> int:
    """Return the bytes that are free for this process.

    A container's limit may be far below what the machine has free; whoever passes it is killed
    without a word. Pages that only cache files give way, so they count as free.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    free: int = psutil.virtual_memory().available
    return max(min([free, *_room_in_limits(root)]), 0)


def _room_in_limits(root: Path) -> Iterator[int]:
    """Yield what each limit of the cgroups of this process, and of those around them, leaves."""
    for folder in cgroup_folders(root, "memory"):
        for limit_name, usage_name, cache_name in [
            ("memory.max", "memory.current", "inactive_file"),  # version 2
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # version 1
        ]:
            limit, usage = (_number(folder / name) for name in (limit_name, usage_name))
            if limit is not None and usage is not None:
                yield limit - usage + _cache_bytes(folder, cache_name)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:  # not this version, or the topmost group
        return None
    return int(text) if text.isdecimal() else None  # "max" is no limit


def _cache_bytes(folder: Path, name: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    figures = dict(line.split(maxsplit=1) for line in lines)
    return int(figures.get(name, 0))
