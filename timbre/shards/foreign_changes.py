"""What has become of a folder of tars since it was indexed: by names, sizes and times."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from timbre import storage
from timbre.storage import FileStat

# Beside the manifest: of each tar the text that its file system or store changes with the content.
STAMPS_NAME = "tars.stamps"
MAX_NAMED = 5


class Changes(NamedTuple):
    """The tars that were added, were written to, or are gone, by their paths in the folder."""

    additions: list[str]
    edits: list[str]
    removals: list[str]

    def __str__(self) -> str:
        """Return them as a clause."""
        verbs = zip(self, ("added", "changed", "removed"), strict=True)
        return "; ".join(
            f"{len(paths)} {'tar was' if len(paths) == 1 else 'tars were'} {verb}: {named(paths)}"
            for paths, verb in verbs
            if paths
        )


def find_changes(listed: dict[str, int], tars: Sequence[FileStat], home: str) -> Changes:
    """Return how the tars of a folder differ from those that are ``listed`` with their sizes.

    Times are compared where ``home`` says what they were; where it does not, sizes must do.
    """
    there = {tar.path: tar for tar in tars}
    stamps = _load_stamps(home)
    edits = [
        path
        for path, tar in there.items()
        if path in listed
        and (tar.bytes != listed[path] or stamps.get(path, tar.stamp) != tar.stamp)
    ]
    additions, removals = there.keys() - listed.keys(), listed.keys() - there.keys()
    return Changes(sorted(additions), sorted(edits), sorted(removals))


def save_stamps(home: str, tars: Sequence[FileStat]) -> None:
    """Write down the times of tars that have just been indexed."""
    stamps = {tar.path: tar.stamp for tar in tars}
    storage.publish(storage.join(home, STAMPS_NAME), json.dumps(stamps).encode())


def named(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if names[MAX_NAMED:] else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _load_stamps(home: str) -> dict[str, str]:
    """Return what :func:`save_stamps` wrote; nothing where there is no such file, or another one."""
    try:
        stamps = json.loads(storage.read(storage.join(home, STAMPS_NAME)))
    except (FileNotFoundError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}
