"""Check every shard and pair of a manifest again; exit 1 and name what is wrong."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from shard_tools.verify.manifest import Report, check_manifest
from timbre.command import at_least, command, print_result
from timbre.errors import WorkError

MAX_PRINTED = 50


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Verify ``MANIFEST [--offsets all|N] [--workers N] [--json]``."""
    parser = argparse.ArgumentParser("timbre verify", description=__doc__)
    parser.add_argument("manifest", metavar="MANIFEST", help="manifest.json, or its folder")
    parser.add_argument(
        "--offsets",
        metavar="all|N",
        type=_offsets,
        help="pairs whose alignment offset is measured again (2 %%, at least 20, at most 500)",
    )
    parser.add_argument(
        "--workers", metavar="N", type=at_least(1), help="shards checked at once (one a core)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = parser.parse_args(argv)
    report = check_manifest(options.manifest, options.workers, options.offsets)
    print_result(json.dumps(_to_tree(report)) if options.json else _to_text(report))
    if report.faults:
        lines = [] if options.json else [str(fault) for fault in report.faults[:MAX_PRINTED]]
        if len(report.faults) > MAX_PRINTED and lines:
            lines.append(f"… and {len(report.faults) - MAX_PRINTED} more: --json names them all")
        raise WorkError(f"{len(report.faults)} faults in {report.manifest}", *lines)


def _to_tree(report: Report) -> dict[str, Any]:
    return {**report._asdict(), "faults": [fault._asdict() for fault in report.faults]}


def _to_text(report: Report) -> str:
    verdict = f"{len(report.faults)} faults" if report.faults else "everything is whole"
    return "\n".join(
        [
            f"{report.pairs} pairs in {report.shards} shards, {report.seconds / 3600:.2f} h, "
            f"{report.checked_offsets} offsets measured again: {verdict}",
            *(f"note: {note}" for note in report.notes),
        ]
    )


def _offsets(text: str) -> int:
    if text == "all":
        return sys.maxsize
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: expected all, or a whole number")
    return int(text)
