"""Make a blind listening test of several systems as one page, or read what its listeners answered.

FOLDER holds a folder for each system, and each of them the same clips: FOLDER/df3/a.flac,
FOLDER/offline/a.flac, FOLDER/clean/a.flac. `timbre evaluate --sounds N` writes such a folder.
"""

import argparse
import sys
from collections.abc import Sequence

from timbre import storage
from timbre.command import at_least, command, print_result, print_warning, table
from timbre.errors import ConfigError
from timbre.listen.answers import read_answers, screen
from timbre.listen.clips import REFERENCE, open_folder
from timbre.listen.page import to_html
from timbre.listen.plan import METHODS, MUSHRA, plan_test
from timbre.listen.results_page import Results, results_of, rows
from timbre.listen.results_page import to_html as results_to_html
from timbre.shards import spread

TEST_PAGE, RESULTS_PAGE = "listening-test.html", "listening-results.html"
SHORTEST_SECONDS = 1.0
# ITU-R BS.1534 advises about ten: a longer one is not kept in mind.
USUAL_SECONDS, USUAL_CLIPS = 10.0, 10
# Browsers open larger pages slowly, and mail does not carry them.
LARGE_PAGE_BYTES = 100e6


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre listen", description=__doc__)
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="holds a folder for each system"
    )
    parser.add_argument(
        "--out",
        metavar="PAGE.html",
        help=f"the page to write ({TEST_PAGE}, or {RESULTS_PAGE} of --results)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=MUSHRA,
        help="mushra: rate all versions beside the reference in FOLDER/clean; ab: prefer one of two "
        "(%(default)s)",
    )
    parser.add_argument(
        "--systems", metavar="NAME,...", help="only these folders; mushra adds clean by itself"
    )
    parser.add_argument("--against", metavar="NAME", help="of ab: only pairs with this system")
    parser.add_argument(
        "--clips",
        type=at_least(1),
        default=USUAL_CLIPS,
        metavar="N",
        help="at most so many, spread evenly (%(default)s)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=USUAL_SECONDS,
        help="of each clip at most so much, where it is loudest (%(default)g)",
    )
    parser.add_argument(
        "--results", metavar="FILE.json", nargs="+", help="what listeners of one test saved"
    )
    options = parser.parse_args(argv)
    if (options.folder is None) == (options.results is None):
        raise ConfigError(
            "expected FOLDER, to make a test, or --results FILE.json ..., to read one"
        )
    if not options.seconds >= SHORTEST_SECONDS:
        raise ConfigError(f"--seconds {options.seconds:g}: expected at least {SHORTEST_SECONDS:g}")
    if options.against is not None and options.method == MUSHRA:
        raise ConfigError("--against: belongs to --method ab; mushra plays all systems together")
    return options


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Make a test of ``FOLDER``, or read ``--results``."""
    options = _parse(argv)
    if options.results is not None:
        _read(options.results, options.out or RESULTS_PAGE)
    else:
        _make(options)


def _make(options: argparse.Namespace) -> None:
    systems = options.systems.split(",") if options.systems else None
    if systems and options.method == MUSHRA and REFERENCE not in systems:
        systems = [REFERENCE, *systems]
    folders = open_folder(options.folder, systems)
    clips = [folders.clips[n] for n in spread(len(folders.clips), options.clips)]
    plan = plan_test(folders, clips, options.method, options.seconds, options.against)
    page = to_html(plan, options.seconds).encode()
    url = options.out or TEST_PAGE
    storage.publish(url, page)
    parts = len(plan.tree["trials"])
    print_result(
        f"written: {url}: {parts} parts, {len(clips)} clips, {len(folders.systems)} systems, "
        f"{len(page) / 1e6:.1f} MB"
    )
    if len(page) > LARGE_PAGE_BYTES:
        print_warning(f"{url} is large; --clips, --seconds and --systems make it smaller")


def _read(urls: Sequence[str], page_url: str) -> None:
    results = results_of(screen(read_answers(urls)))
    storage.publish(page_url, results_to_html(results).encode())
    for line in results.left_out:
        print_warning(f"left out: {line}")
    if results.without_headphones:
        print_warning(f"no headphone check passed: {', '.join(results.without_headphones)}")
    print_result(_headline(results))
    print_result(table(rows(results), text_columns=1))
    print_result(f"written: {page_url}")


def _headline(results: Results) -> str:
    return f"{results.method}: {results.listeners} listeners, {results.clips} clips"


if __name__ == "__main__":
    sys.exit(main())
