"""Show what a manifest holds: how much, of whom, how noisy, how far apart, and what was refused."""

import argparse
import json
from collections.abc import Sequence

from shard_tools.metas import open_manifest, read_metas
from shard_tools.stats.quantities import Metas, describe
from shard_tools.stats.text import to_text
from timbre import shards
from timbre.command import at_least, command, print_result
from timbre.errors import ConfigError

SAMPLE = 20_000


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Describe ``MANIFEST [--sample N] [--json] [--table] [--plots DIR]``."""
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
    parser.add_argument(
        "--table",
        action="store_true",
        help="write pairs.parquet beside the manifest, a row for each of all pairs",
    )
    parser.add_argument("--plots", metavar="DIR", help="write pictures (PNG) into this folder")
    options = parser.parse_args(argv)
    if options.plots:
        try:
            from shard_tools.stats import plots
        except ImportError:
            raise ConfigError("--plots needs matplotlib: pip install 'timbre[prep]'") from None
    if options.table:
        try:
            from shard_tools.stats import pairs_table
        except ImportError as error:  # also where it does not fit the NumPy that is there
            message = f"--table needs pyarrow: pip install 'timbre[table]' ({error})"
            raise ConfigError(message) from None
    manifest = open_manifest(options.manifest)
    metas: Metas = {
        split: read_metas(
            options.manifest, manifest, split, None if options.table else options.sample
        )
        for split in manifest.splits
    }
    tree = {"manifest": shards.manifest_url(options.manifest), **describe(manifest, metas)}
    print_result(json.dumps(tree) if options.json else to_text(tree))
    paths = [pairs_table.write_table(options.manifest, manifest, metas)] if options.table else []
    paths += plots.draw(options.plots, manifest, metas) if options.plots else []
    if paths and not options.json:
        print_result("\n".join(["", *(f"written: {url}" for url in paths)]))
