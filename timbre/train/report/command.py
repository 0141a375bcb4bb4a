"""``timbre report RUN``."""

import argparse
from collections.abc import Sequence
from pathlib import PurePosixPath

from timbre import storage
from timbre.command import command, print_result, table
from timbre.errors import ConfigError
from timbre.train.report import events as all_events
from timbre.train.report import goodput as goodputs
from timbre.train.report import page
from timbre.train.watch import event_files, time_log


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print where a run's time went, and write its page."""
    parser = argparse.ArgumentParser(
        "timbre report",
        description="Show where a run's time went, its curves, and its last pictures and sounds. "
        "The run may still be going on.",
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder, run_dir of its config")
    parser.add_argument("--to", metavar="FILE", help="the page; by default RUN/report.html")
    options = parser.parse_args(argv)
    goodput, events = goodputs.load(options.run), all_events.load(options.run)
    if goodput is None and not events.curves:
        raise ConfigError(
            f"{options.run}: no run of timbre train: neither {time_log.NAME} nor event "
            f"files in {event_files.FOLDER}/; expected the run_dir of its config"
        )
    if goodput is not None:
        print_result(table(goodputs.table(goodput), text_columns=1))
        for line in goodputs.sentences(goodput):
            print_result(line)
    url = options.to or storage.join(options.run, "report.html")
    name = PurePosixPath(options.run.rstrip("/")).name or options.run
    storage.publish(url, page.to_html(name, goodput, events).encode())
    print_result(f"wrote {url}")
