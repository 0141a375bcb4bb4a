"""Show the pairs that a rank will be served by a run on one manifest, one batch a line."""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from timbre import shards
from timbre.command import at_least, command, print_result
from timbre.errors import ConfigError
from timbre.plain_text import printable
from timbre.shards import Corpus, DataSource, ShardEntry, ShardIndex, open_corpus
from timbre.stream import Order, SampleOrder

OPEN_INDEXES = 64
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


class Batch(NamedTuple):
    """What a rank is served in one step of an epoch, which begins at pair ``sample`` of the order.

    ``shards`` names for each of the keys the tar that it lies in, relative to the manifest.
    """

    step: int
    sample: int
    keys: tuple[str, ...]
    shards: tuple[str, ...]


def batch_at(corpus: Corpus, rows: Order, step: int, sample: int) -> Batch:
    """Return the batch of these rows of a ``SampleOrder``.

    Raises:
        OSError, ShardError: a shard or its index is missing, or not the manifest's.
    """
    places = [(corpus.shards[shard], pair) for _, shard, pair in rows]
    keys = tuple(_open_index(corpus.index_folder, shard).pairs[pair].key for shard, pair in places)
    return Batch(step, sample, keys, tuple(shard.path for shard, _ in places))


@lru_cache(maxsize=OPEN_INDEXES)
def _open_index(folder: str, shard: ShardEntry) -> ShardIndex:
    return shards.load_index(folder, shard)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Peek into ``MANIFEST``."""
    options = _parse(argv)
    try:
        corpus = open_corpus(DataSource(options.manifest), options.split)
    except FileNotFoundError:
        raise ConfigError(
            f"{options.manifest}: expected a manifest, or the folder that holds manifest.json or tars"
        ) from None
    order = SampleOrder([corpus], options.seed, options.window)
    steps = order.pairs // options.global_batch
    first = options.start // options.global_batch
    if steps == 0:
        raise ConfigError(
            f"--global-batch {options.global_batch}: larger than an epoch of {order.pairs} pairs"
        )
    if first >= steps:
        raise ConfigError(
            f"--start {options.start}: the last batch of an epoch of {order.pairs} pairs starts at "
            f"{(steps - 1) * options.global_batch}"
        )
    size = options.global_batch // options.world
    for step in range(first, min(first + options.steps, steps)):
        sample = step * options.global_batch
        low = sample + options.rank * size
        batch = batch_at(corpus, order.rows(options.epoch, low, low + size), step, sample)
        if options.json:
            print_result(json.dumps(batch._asdict()))
        else:
            print_result(f"{options.epoch}:{sample} " + " ".join(map(printable, batch.keys)))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "timbre peek",
        description=__doc__,
        epilog="Each line begins with EPOCH:SAMPLE, how far the epoch is consumed before the batch. "
        "A pair that turns out damaged is replaced by the next in order; that is not shown.",
    )
    parser.add_argument("manifest", metavar="MANIFEST", help="manifest.json, or its folder")
    parser.add_argument("--split", default="train", help="which split (%(default)s)")
    for name, default, least, meaning in OPTIONS:
        parser.add_argument(
            f"--{name}",
            metavar="N",
            type=at_least(least),
            default=default,
            help=f"{meaning} (%(default)s)",
        )
    parser.add_argument(
        "--json", action="store_true", help="one object a line: step, sample, keys, shards"
    )
    options = parser.parse_args(argv)
    if options.global_batch % options.world:
        raise ConfigError(
            f"--global-batch {options.global_batch}: expected a multiple of --world {options.world}"
        )
    if options.rank >= options.world:
        raise ConfigError(f"--rank {options.rank}: expected 0 to {options.world - 1}")
    if options.start % options.global_batch:
        raise ConfigError(
            f"--start {options.start}: expected a multiple of --global-batch {options.global_batch}"
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
