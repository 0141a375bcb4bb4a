"""Show the pairs that a rank will be served by a run, one batch a line, or on a page with their sound."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from timbre.command import at_least, command, print_result
from timbre.errors import ConfigError
from timbre.peek.listing import Batch, batch_at
from timbre.peek.page import write_page
from timbre.peek.settings import PeekConfig, is_config, load_settings, shortened
from timbre.plain_text import printable
from timbre.stream import DataMix, MixedOrder, Place, open_mixes

STEPS, STEPS_OF_PAGE = 10, 1
# Name, least value, meaning; the last three are a config's if there is one.
OPTIONS = [
    ("world", 1, "number of ranks (1)"),
    ("rank", 0, "whose batches to show (0)"),
    ("epoch", 0, "epoch, from 0 (0)"),
    ("start", 0, "pairs of the epoch that are consumed already (0)"),
    ("steps", 1, f"how many batches to show ({STEPS}, or {STEPS_OF_PAGE} on a page)"),
    ("global-batch", 1, "pairs a step over all ranks (16)"),
    ("seed", 0, "the run's seed (0)"),
    ("window", 1, "the run's shuffle_window (8)"),
]


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Peek into ``MANIFEST``."""
    options = _parse(argv)
    settings = load_settings(options.manifest, options.global_batch, options.seed, options.window)
    _check(options, settings)
    try:
        mixes = open_mixes(settings.data, settings.data_changes, options.split)
    except FileNotFoundError:
        raise ConfigError(
            f"{options.manifest}: expected a manifest, or the folder that holds manifest.json or tars, "
            "or the config of a run"
        ) from None
    if not is_config(options.manifest):  # which says how long a segment is
        settings = shortened(settings, mixes)
    batches = list(_batches(options, settings, mixes))
    if options.html is not None:
        place = Place(options.rank, options.world)
        write_page(options.html, settings, mixes, place, options.epoch, batches)
        print_result(f"{options.html}: {sum(len(batch.keys) for batch in batches)} segments")
        return
    for batch in batches:
        if options.json:
            print_result(json.dumps(batch._asdict()))
        else:
            print_result(f"{options.epoch}:{batch.sample} " + " ".join(map(printable, batch.keys)))


def _batches(
    options: argparse.Namespace, settings: PeekConfig, mixes: Sequence[DataMix]
) -> Iterator[Batch]:
    """Yield the batches that were asked for."""
    total = settings.global_batch
    order = MixedOrder(mixes, settings.seed, settings.shuffle_window, total)
    steps, first = order.steps(options.epoch), options.start // total
    if first >= steps:
        raise ConfigError(
            f"--start {options.start}: the last batch of an epoch of {order.pairs(options.epoch)} pairs "
            f"starts at {(steps - 1) * total}"
        )
    count = options.steps or (STEPS if options.html is None else STEPS_OF_PAGE)
    size = total // options.world
    for step in range(first, min(first + count, steps)):
        low = step * total + options.rank * size
        rows = order.rows(options.epoch, low, low + size)
        yield batch_at(order.corpora, rows, step, step * total)


def _check(options: argparse.Namespace, settings: PeekConfig) -> None:
    if settings.global_batch % options.world:
        raise ConfigError(
            f"--global-batch {settings.global_batch}: expected a multiple of --world {options.world}"
        )
    if options.rank >= options.world:
        raise ConfigError(f"--rank {options.rank}: expected 0 to {options.world - 1}")
    if options.start % settings.global_batch:
        raise ConfigError(
            f"--start {options.start}: expected a multiple of --global-batch {settings.global_batch}"
        )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "timbre peek",
        description=__doc__,
        epilog="Each line begins with EPOCH:SAMPLE, how far the epoch is consumed before the batch. "
        "A pair that turns out damaged is replaced by the next in order; that is not shown.",
    )
    parser.add_argument(
        "manifest",
        metavar="MANIFEST",
        help="manifest.json, or its folder; or the config of a run, with all of its data",
    )
    parser.add_argument("--split", default="train", help="which split (%(default)s)")
    defaults = {"world": 1, "rank": 0, "epoch": 0, "start": 0}
    for name, least, meaning in OPTIONS:
        parser.add_argument(
            f"--{name}",
            metavar="N",
            type=at_least(least),
            default=defaults.get(name),
            help=meaning,
        )
    parser.add_argument(
        "--html",
        metavar="FILE",
        help="write one page that shows and plays the segments as training cuts and augments them",
    )
    parser.add_argument(
        "--json", action="store_true", help="one object a line: step, sample, keys, shards"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
