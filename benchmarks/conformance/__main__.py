"""Try loaders by what they promise: `python -m benchmarks.conformance [--only NAMES] [--table FILE]`.

`make peers` makes the environment of the other loaders; one that is not there is left out. Each result
is printed as it comes: passed, failed with what the loader did instead, or unsupported with why. Write an
adapter of a few lines for another loader: :mod:`benchmarks.conformance.adapter`.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from benchmarks.conformance.loader_process import LoaderError, LoaderProcess
from benchmarks.conformance.scenarios import SCENARIOS, Scenario
from benchmarks.report import print_line, print_machine
from benchmarks.stream.case import PEERS_PYTHON

BENCH = "conformance"
ADAPTERS = "benchmarks.conformance.adapters."
OURS = "timbre"
MODULES = {
    OURS: f"{ADAPTERS}ours",
    "Grain": f"{ADAPTERS}grain_elastic",
    "MosaicML Streaming": f"{ADAPTERS}mosaic",
    "LitData": f"{ADAPTERS}lit",
    "WebDataset": f"{ADAPTERS}tars",
}
PASSED, FAILED, UNSUPPORTED = "passed", "failed", "unsupported"


class Outcome(NamedTuple):
    """What came of a scenario, and what is to be said of it."""

    verdict: str
    reason: str = ""


def main() -> None:
    """Run the scenarios on the loaders that are there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(MODULES)}")
    parser.add_argument("--table", metavar="FILE", type=Path, help="write a table in Markdown")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(MODULES)
    if unknown := set(names) - MODULES.keys():
        parser.error(
            f"--only: no loader {', '.join(sorted(unknown))}; there are: {', '.join(MODULES)}"
        )
    if not PEERS_PYTHON.exists() and names != [OURS]:
        print_line(bench=BENCH, note=f"no {PEERS_PYTHON}, so no peers: `make peers` makes it")
        names = [name for name in names if name == OURS]
    print_machine(BENCH)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            heading, outcomes = try_loader(name, Path(folder))
            results[heading] = outcomes
    if options.table:
        options.table.write_text(to_table(results))
    passed = {name: sum(o.verdict == PASSED for o in all_) for name, all_ in results.items()}
    print_line(bench=BENCH, scenarios=len(SCENARIOS), passed=passed)
    if any(o.verdict == FAILED for o in results.get(OURS, [])):
        sys.exit(1)


def try_loader(name: str, folder: Path) -> tuple[str, list[Outcome]]:
    """Return the loader's name with its version, and what came of every scenario."""
    outcomes = []
    python = sys.executable if name == OURS else str(PEERS_PYTHON)
    with LoaderProcess(python, MODULES[name], folder / "data", folder / f"{name}.log") as loader:
        about = loader.ask("describe")
        heading = f"{name} {about['version']}".strip()
        for scenario in tqdm(SCENARIOS, heading, disable=None):
            outcome = try_scenario(loader, scenario, about["lacks"])
            outcomes.append(outcome)
            print_line(bench=BENCH, loader=heading, scenario=scenario.name, **outcome._asdict())
    return heading, outcomes


def try_scenario(loader: LoaderProcess, scenario: Scenario, lacks: dict[str, str]) -> Outcome:
    """Return what came of a scenario; what a loader does not promise is not run."""
    for need in scenario.needs:
        if need in lacks:
            return Outcome(UNSUPPORTED, lacks[need])
    try:
        loader.prepare()
        scenario.run(loader)
    except LoaderError as failed:
        return Outcome(FAILED, str(failed))
    return Outcome(PASSED)


def to_table(results: dict[str, list[Outcome]]) -> str:
    """Return a table in Markdown, a row a scenario, and below it what is to be said."""
    lines = [
        f"| | {' | '.join(results)} |",
        "|---|" + "---|" * len(results),
    ]
    notes: list[str] = []
    for number, scenario in enumerate(SCENARIOS):
        cells = []
        for name, outcomes in results.items():
            verdict, reason = outcomes[number]
            note = f"{name}: {reason}"
            if reason and note not in notes:
                notes.append(note)
            cells.append(f"{verdict} ({notes.index(note) + 1})" if reason else verdict)
        lines.append(f"| {scenario.name} | {' | '.join(cells)} |")
    said = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *said, ""])


if __name__ == "__main__":
    main()
