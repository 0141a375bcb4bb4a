"""How fast pairs are loaded: ours, other loaders, and what the machine allows.

Run as `python -m benchmarks.stream [--quick] [--rounds N] [--data FOLDER] [--only NAMES] [--part NAME]`;
`make peers` makes the environment of the other loaders, without which they are left out. Linux only.
Loaders run the jobs that the goals are stated for, in rounds that are printed as they come, for five
minutes (`--minutes`); `--full` runs every job, in float32 too, and measures memory: half an hour.

Parts, all by default:

loaders  ours, others and the limits by turns on the same pairs (`stream_loaders.py`)
memory   what ours holds over 20 epochs (`stream_memory.py`)
large    10 million pairs (`stream_large.py`)
s3       a bucket on this machine, against bare GETs of the same ranges (`stream_s3.py`)
clients  what a pair out of a bucket costs by obstore and by s3fs (`clients.py`)

To reach: `wav_cpu/ours_to_transport` 1.35, `wav_cpu/ours_to_best_peer` 0.5 (both of whole pairs),
`flac_cpu/ours_to_libsndfile` 1.1, `flac_cpu/ours_to_best_peer` 0.7 (of segments), `first_batch/resume_to_start` 1.2,
`memory/growth_percent` within 2, `large/first_batch_to_5_s` and `large/peak_to_1_GB` below 1,
`s3/ours_to_bare_get` 0.7 or more, `clients/obstore_to_s3fs` 0.5.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.report import print_machine, print_ratios
from benchmarks.stream import clients as stream_clients
from benchmarks.stream import data as stream_data
from benchmarks.stream import large as stream_large
from benchmarks.stream import loaders as stream_loaders
from benchmarks.stream import memory as stream_memory
from benchmarks.stream import s3 as stream_s3
from benchmarks.stream.plan import BENCH, Plan, Ratios

PARTS: Mapping[str, Callable[[str, Plan], Ratios]] = {
    "loaders": stream_loaders.measure,
    "memory": stream_memory.measure,
    "large": stream_large.measure,
    "s3": stream_s3.measure,
    "clients": stream_clients.measure,
}


def main() -> None:
    """Measure the parts asked for; print figures and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of little")
    parser.add_argument("--rounds", metavar="N", type=int, help="5, or 1 if quick")
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="recordings of speech")
    parser.add_argument("--only", metavar="NAMES", help="loaders, separated by commas")
    parser.add_argument("--full", action="store_true", help="every job, and memory")
    parser.add_argument("--minutes", metavar="N", type=float, default=5.0, help="%(default)s")
    parser.add_argument("--part", choices=PARTS, action="append", help="may be given repeatedly")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else None
    if unknown := set(only or ()) - stream_loaders.MODULES.keys():
        loader_names = ", ".join(stream_loaders.MODULES)
        parser.error(f"--only: no loader {', '.join(sorted(unknown))}; there are: {loader_names}")
    print_machine(BENCH)
    plan = Plan(
        clips=stream_data.draw_clips(options.data, options.quick),
        quick=options.quick,
        rounds=options.rounds or (1 if options.quick else 5),
        only=only,
        full=options.full,
        minutes=options.minutes,
    )
    ratios: Ratios = {}
    for part in options.part or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            ratios |= PARTS[part](folder, plan)
    print_ratios(BENCH, **ratios)


if __name__ == "__main__":
    main()
