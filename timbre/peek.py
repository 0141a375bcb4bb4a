"""Show the pairs that a rank will be served, one batch a line."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from timbre import shards
from timbre.command import command, say
from timbre.errors import ConfigError
from timbre.order import Corpus, DataSource, Order, mixed_order, open_corpus

# Name, default, least value, meaning.
OPTIONS = [
    ("global-batch", 16, 1, "pairs a step over all ranks"),
    ("world", 1, 1, "number of ranks"),
    ("rank", 0, 0, "whose batches to show"),
    ("epoch", 0, 0, "epoch, from 0"),
    ("start", 0, 0, "pairs of the epoch that are consumed already"),
    ("steps", 10, 1, "how many batches to show"),
    ("seed", 0, 0, "the run's seed"),
    ("window", 8, 1, "the run's shuffle_window"),
]


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
    for name, default, least, meaning in OPTIONS:
        kind = partial(_at_least, least)
        parser.add_argument(
            f"--{name}", type=kind, default=default, help=f"{meaning} (%(default)s)"
        )
    given = parser.parse_args(argv)
    if given.global_batch % given.world:
        raise ConfigError(
            f"--global-batch {given.global_batch}: expected a multiple of --world {given.world}"
        )
    if given.rank >= given.world:
        raise ConfigError(f"--rank {given.rank}: expected 0 to {given.world - 1}")
    if given.start % given.global_batch:
        raise ConfigError(
            f"--start {given.start}: expected a multiple of --global-batch {given.global_batch}"
        )
    corpus = open_corpus(DataSource(given.manifest), given.split)
    order = mixed_order([corpus], given.seed, given.epoch, given.window)
    if given.global_batch > len(order):
        raise ConfigError(
            f"--global-batch {given.global_batch}: larger than an epoch of {len(order)} pairs"
        )
    size = given.global_batch // given.world
    last = min(
        len(order) - given.global_batch, given.start + (given.steps - 1) * given.global_batch
    )
    for first in range(given.start, last + 1, given.global_batch):
        low = first + given.rank * size
        say(f"{given.epoch}:{first} " + " ".join(batch_keys(corpus, order[low : low + size])))


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least {least}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
