"""Index a folder of WebDataset tars before a job that is to read it.

Without this the first command that opens the folder does it, while all ranks of a job wait.
"""

import argparse
import sys
from collections.abc import Sequence

from timbre.command import at_least, print_result, restartable_command
from timbre.cores import granted_cores
from timbre.errors import ConfigError
from timbre.shards import is_adopted, open_or_adopt


@restartable_command
def main(argv: Sequence[str] | None = None) -> None:
    """Index ``FOLDER``."""
    options = _parse(argv)
    # A process takes seconds to start; the only one is this one.
    jobs = options.jobs if options.jobs > 1 else 0
    try:
        manifest, home = open_or_adopt(options.folder, jobs)
    except FileNotFoundError:
        raise ConfigError(
            f"{options.folder}: expected a folder of tars, FOLDER/train/*.tar or FOLDER/*.tar"
        ) from None
    if not is_adopted(manifest):
        print_result(f"{options.folder}: has a manifest of its own; there is nothing to index")
        return
    splits = ", ".join(
        f"{name} {sum(shard.pairs for shard in shards)} pairs in {len(shards)} tars"
        for name, shards in manifest.splits.items()
    )
    print_result(f"{options.folder}: {splits}; manifest and indexes are in {home}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "timbre index",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Run it again to continue, or after tars were added, changed or removed.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="of tars, or its URL")
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=at_least(1),
        default=granted_cores(),
        help="processes, each with one tar at a time (%(default)s)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
