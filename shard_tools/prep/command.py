"""Plan and write shards from speech, noise and rooms; run it again to continue, or to add new clips."""

from collections.abc import Sequence

from shard_tools.config import PrepConfig
from shard_tools.executors.share import find_share
from shard_tools.prep.prep import ALL, EXECUTORS, prep
from timbre import config as configs
from timbre import shards, storage
from timbre.command import config_parser, print_result, restartable_command
from timbre.errors import ConfigError


@restartable_command
def main(argv: Sequence[str] | None = None) -> None:
    """Make shards by ``CONFIG [section.key=value ...] [--executor E]``."""
    parser = config_parser("prep", __doc__, "configs/prep.yaml")
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="local",
        help="where shards are made: processes of this machine, a Ray cluster, or one share of "
        "them here and the others by other tasks of a job array (%(default)s)",
    )
    parser.add_argument(
        "--share",
        metavar="I/N",
        help="with --executor array: share I of N, from 0; otherwise Slurm's, Kubernetes' or "
        "TIMBRE_SHARE and TIMBRE_SHARES tell",
    )
    options = parser.parse_intermixed_args(argv)
    if options.share and options.executor != "array":
        raise ConfigError(f"--share {options.share}: only with --executor array")
    config = configs.load(PrepConfig, options.config, options.overrides)
    share = find_share(options.share) if options.executor == "array" else ALL
    manifest = prep(config, options.executor, share)
    if manifest is None:
        return
    for split, entries in manifest.splits.items():
        pairs, hours = sum(e.pairs for e in entries), sum(e.seconds for e in entries) / 3600
        print_result(f"{split}: {pairs} pairs, {hours:.2f} h, {len(entries)} shards")
    print_result(f"refused: {manifest.rejected or 'none'}")
    print_result(f"written: {storage.join(config.output, shards.MANIFEST_NAME)}")
