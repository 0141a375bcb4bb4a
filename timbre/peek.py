"""Show the pairs that a rank will be served, one batch a line."""

import argparse
import sys
from collections.abc import Sequence

from timbre import shards
from timbre.command import command, say
from timbre.errors import ConfigError
from timbre.order import Corpus, DataSource, Order, mixed_order, open_corpus


def batch_keys(corpus: Corpus, rows: Order) -> list[str]:
    """Return the keys of the pairs in rows of ``mixed_order``."""
    return [
        shards.load_index(corpus.folder, corpus.shards[shard]).pairs[pair].key
        for _, shard, pair in rows
    ]


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Peek into ``MANIFEST``."""
    parser = argparse.ArgumentParser("timbre peek", description=__doc__)
    parser.add_argument("manifest", metavar="MANIFEST", help="manifest.json, or its folder")
    parser.add_argument("--split", default="train")
    for name, default, meaning in [
        ("global-batch", 16, "pairs a step over all ranks"),
        ("world", 1, "number of ranks"),
        ("rank", 0, "whose batches to show"),
        ("epoch", 0, "epoch, from 0"),
        ("start", 0, "pairs of the epoch that are consumed already"),
        ("steps", 10, "how many batches to show"),
        ("seed", 0, "the run's seed"),
        ("window", 8, "the run's shuffle_window"),
    ]:
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} (%(default)s)")
    given = parser.parse_args(argv)
    if given.world < 1 or given.global_batch < 1 or given.global_batch % given.world:
        raise ConfigError(
            f"--global-batch {given.global_batch}: expected a multiple of --world {given.world}"
        )
    if not 0 <= given.rank < given.world:
        raise ConfigError(f"--rank {given.rank}: expected 0 to {given.world - 1}")
    corpus = open_corpus(DataSource(given.manifest), given.split)
    order = mixed_order([corpus], given.seed, given.epoch, given.window)
    size = given.global_batch // given.world
    last = min(
        len(order) - given.global_batch, given.start + (given.steps - 1) * given.global_batch
    )
    for first in range(given.start, last + 1, given.global_batch):
        low = first + given.rank * size
        say(f"{given.epoch}:{first} " + " ".join(batch_keys(corpus, order[low : low + size])))


if __name__ == "__main__":
    sys.exit(main())
