"""Show what a manifest holds: how much, of whom, how noisy, how far apart, and what was refused."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shard_tools.metas import open_manifest, read_metas
from shard_tools.stats.figures import Metas, describe
from timbre import shards
from timbre.command import at_least, command, say
from timbre.errors import ConfigError

SAMPLE = 20_000
HASH_SHOWN = 12
COUNTS = {
    "pairs": "pairs",
    "shards": "shards",
    "hours": "hours",
    "pairs_looked_at": "looked at",
    "speakers": "speakers",
    "recordings": "clips",
    "rooms": "rooms",
    "pairs_in_a_room": "in a room",
    "pairs_with_babble": "babble",
    "pairs_with_several_noises": "2-3 noises",
}
QUANTILE_NAMES = ("least", "5 %", "25 %", "median", "75 %", "95 %", "most")


def to_text(tree: Mapping[str, Any]) -> str:
    """Return what :func:`describe` gives as tables."""
    splits = tree["splits"]
    names = list(next(iter(splits.values()))["figures"]) if splits else []
    blocks = [
        _table(
            [
                ["split", *COUNTS.values()],
                *([split, *(_number(d[name]) for name in COUNTS)] for split, d in splits.items()),
            ],
            text_columns=1,
        )
    ]
    if any(d["pairs_looked_at"] < d["pairs"] for d in splits.values()):
        blocks.append("all but pairs, shards and hours is of the pairs looked at, drawn by a seed")
    rows = [
        [f"{name} ({figure['unit']})", split, *map(_number, figure["quantiles"].values())]
        for name in names
        for split, d in splits.items()
        for figure in [d["figures"][name]]
        if figure["pairs"]
    ]
    blocks.append(_table([["of a pair", "split", *QUANTILE_NAMES], *rows], text_columns=2))
    blocks.append(_table([["denoiser", "split", "pairs"], *_denoisers(splits)], text_columns=2))
    refused = [
        [reason, str(d["pairs"]), f"{100 * d['share']:.2f} %"]
        for reason, d in tree["refused_pairs"].items()
    ]
    blocks.append(
        _table([["refused pairs", "pairs", "share"], *refused], text_columns=1)
        if refused
        else "refused pairs: none"
    )
    clips = [
        [role, reason, str(count)]
        for role, counts in tree["clips"].items()
        for reason, count in counts.items()
    ]
    if clips:
        blocks.append(_table([["clips", "", "count"], *clips], text_columns=2))
    return "\n\n".join(blocks)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Describe ``MANIFEST [--sample N] [--json] [--plots DIR]``."""
    parser = argparse.ArgumentParser("timbre stats", description=__doc__)
    parser.add_argument("manifest", metavar="MANIFEST", help="manifest.json, or its folder")
    parser.add_argument(
        "--sample",
        metavar="N",
        type=at_least(1),
        default=SAMPLE,
        help="look at so many pairs of each split at most, the same ones each time (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--plots", metavar="DIR", help="write pictures (PNG) into this folder")
    given = parser.parse_args(argv)
    if given.plots:
        try:
            from shard_tools.stats import plots
        except ImportError:
            raise ConfigError("--plots needs matplotlib: pip install 'timbre[prep]'") from None
    manifest = open_manifest(given.manifest)
    metas: Metas = {
        split: read_metas(given.manifest, manifest, split, given.sample)
        for split in manifest.splits
    }
    tree = {"manifest": shards.manifest_url(given.manifest), **describe(manifest, metas)}
    say(json.dumps(tree) if given.json else to_text(tree))
    if given.plots:
        written = plots.draw(given.plots, manifest, metas)
        if not given.json:
            say("\n".join(["", *(f"written: {url}" for url in written)]))


def _denoisers(splits: Mapping[str, Any]) -> Iterator[list[str]]:
    for split, figures in splits.items():
        for denoiser, pairs in figures["denoisers"].items():
            name, _, sha256 = denoiser.partition(" ")
            yield [f"{name} {sha256[:HASH_SHOWN]}".strip(), split, str(pairs)]


def _table(rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """Return rows as lines: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value + 0.0:.4g}"


if __name__ == "__main__":
    sys.exit(main())
