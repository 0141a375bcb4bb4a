"""The files of a source in parts, each measured by one worker and kept for every later scan.

A part is published when it is done, under a name that depends on the files in it, so that a scan
that was killed, or was shared by many machines, or finds a few files more than the last one,
measures only the parts that nobody has measured.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from shard_tools.scan.catalogue import dump_rows
from shard_tools.scan.measure import measure
from shard_tools.scan.sources import File
from timbre import storage

# Raised when a row would say something else of the same file.
SCAN_VERSION = 2
# How large a part is on average, in files or in bytes, whichever comes first.
FILES_PER_PART = 64
BYTES_PER_PART = 1 << 28


class SourcePart(NamedTuple):
    """Some files of a source; ``name`` is where their rows are kept, beside other parts'."""

    name: str
    role: str
    files: tuple[File, ...]


def cut_into_parts(files: Sequence[File], role: str) -> list[SourcePart]:
    """Return the parts of a scan; adding or removing a file changes only the part it is in.

    So whether a part ends after a file is decided by that file alone: by a hash of its path, the
    more likely the larger the file.
    """
    parts: list[list[File]] = [[]]
    for file in files:
        parts[-1].append(file)
        share = 1 / FILES_PER_PART + file.bytes / BYTES_PER_PART
        if zlib.crc32(file.path.encode()) < share * 2**32:
            parts.append([])
    return [SourcePart(_part_name(part, role), role, tuple(part)) for part in parts if part]


def scan_part(folder: str, part: SourcePart) -> None:
    """Measure the files of a part and publish their rows below ``folder``, if nobody has yet."""
    url = storage.join(folder, part.name)
    if not storage.exists(url):
        rows = [measure(file, with_bandwidth=part.role == "speech") for file in part.files]
        if part.role == "rir":  # a response may well have a mean of its own
            rows = [replace(row, offset=None) for row in rows]
        storage.publish(url, dump_rows(rows))


def _part_name(files: Sequence[File], role: str) -> str:
    stamps = [(file.path, file.bytes, file.stamp) for file in files]
    return f"{role}-{storage.sha256(json.dumps([SCAN_VERSION, stamps]).encode())[:24]}.jsonl"
