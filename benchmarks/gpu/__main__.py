"""All that a machine with a GPU has to tell, in one command and within a time limit.

Run as `python -m benchmarks.gpu --out FOLDER [--minutes M] [--data MANIFEST ...] [--cases NAMES]`; it
needs no network. Cases run in the order of their worth, in a process of their own: one that fails is
told by name with its traceback, one that hangs or takes the process with it is ended, and the others
go on. Those that no longer fit into the time are told as skipped. Every line is in
`FOLDER/results.jsonl` before the next one is measured, and `results.md` is the same as a table. The
exit code is 1 if a case failed.

A second call into the same folder goes on with the cases that are not done yet, of the same commit;
`--again` runs all.

`--data` names shards made beforehand, in FLAC or WAV; what is not given is made up. `--quick
--device cpu` only shows that everything runs.
"""

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu.cases import BENCH, CASES
from benchmarks.report import git_commit

# A case may take so many times as long as is thought, and so much more, before it is ended.
PATIENCE, GRACE_SECONDS = 3.0, 40.0
ROOT = Path(__file__).parents[2]

RESULTS = "results.jsonl"

Line = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases asked for; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", metavar="FOLDER", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of it (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="sizes that only show that it runs")
    parser.add_argument("--cases", metavar="NAMES", help="beginnings of names, with commas between")
    parser.add_argument("--data", metavar="MANIFEST", action="append", default=[])
    parser.add_argument("--commit", help="where there is no repository to ask")
    parser.add_argument("--again", action="store_true", help="also what is in FOLDER already")
    parser.add_argument("--list", action="store_true", help="print the names of the cases, and end")
    options = parser.parse_args(argv)
    names = chosen(options.cases)
    if not names:
        parser.error(f"--cases {options.cases}: no case begins so; --list names them")
    if options.list:
        sys.stdout.write("".join(f"{name}\n" for name in names))
        return 0
    before = set() if options.again else done(options.out, options.commit)
    names = [name for name in names if name not in before]
    until = time.time() + 60 * options.minutes
    words = ["--device", options.device, "--until", str(until)]
    words += ["--quick"] * options.quick
    words += [word for url in options.data for word in ("--data", absolute(url))]
    with Results(options.out, options.commit) as results:
        left = names
        while left:
            worker = Worker([*words, "--cases", ",".join(left)], options.device, options.out)
            left = follow(worker, left, until, results)
        results.finish()
    return 1 if results.failed else 0


def chosen(beginnings: str | None) -> list[str]:
    """The names of the cases that begin with one of these, with commas between; of all without."""
    wished = tuple((beginnings or "").split(","))
    return [case.name for case in CASES if case.name.startswith(wished)]


def done(folder: Path, commit: str | None) -> set[str]:
    """The cases that an earlier call into the folder has finished, of the commit that is at hand."""
    path, cases, is_current = folder / RESULTS, set[str](), False
    for text in path.read_text().splitlines() if path.is_file() else ():
        line = json.loads(text)
        if "commit" in line:
            is_current = line["commit"] == (commit or git_commit())
        elif "took" in line and is_current:
            cases.add(line["case"])
    return cases


def absolute(url: str) -> str:
    """A path from the root on, as the cases run in a folder of their own; other URLs as they are."""
    return url if "://" in url else str(Path(url).resolve())


class Results:
    """Lines on disk as soon as they are known, and the table that is made of them."""

    def __init__(self, folder: Path, commit: str | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.commit = folder, commit
        self.lines: list[Line] = []
        self.failed: list[str] = []
        path = folder / RESULTS
        if path.is_file():  # an earlier call's, so that the table is of both
            self.lines += [json.loads(text) for text in path.read_text().splitlines()]
        self._file = path.open("a")

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, line: Line) -> None:
        """Keep a line, and show it."""
        if "commit" in line and self.commit:
            line["commit"] = self.commit
        if "failed" in line:
            self.failed.append(line["case"])
        self.lines.append(line)
        text = json.dumps(line)
        self._file.write(text + "\n")
        self._file.flush()
        sys.stdout.write(text[:2000] + "\n")
        sys.stdout.flush()
        if not line.keys() & {"metric", "begun"}:
            (self.folder / "results.md").write_text(table(self.lines))

    def finish(self) -> None:
        """Add the ratios, as the last line."""
        ratios = {
            f"{line['case']}: {line['metric']}": line["value"]
            for line in self.lines
            if line.get("unit") == "ratio"
        }
        self.add({"bench": BENCH, "ratios": ratios})


class Worker:
    """The process that runs cases; what it says on standard error goes to `worker.log`."""

    def __init__(self, words: list[str], device: str, folder: Path) -> None:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        if device == "cpu":
            environment["ACCELERATE_USE_CPU"] = "true"
        self.log = folder / "worker.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.cases", *words],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # so that its own processes end with it
            )
        self.lines: queue.Queue[Line | None] = queue.Queue()
        assert self.process.stdout is not None
        threading.Thread(target=self._read, args=[self.process.stdout], daemon=True).start()

    def _read(self, stream: TextIO) -> None:
        for text in stream:
            if text.startswith("{"):
                with suppress(ValueError):
                    self.lines.put(json.loads(text))
        self.lines.put(None)

    def end(self) -> str:
        """End it and all that it has started; return what it said last."""
        if self.process.returncode is None:  # else its number may be another's by now
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        return f"exit code {code}; {self.log} ends with:\n{self.log.read_text(errors='replace')[-3000:]}"


def follow(worker: Worker, names: list[str], until: float, results: Results) -> list[str]:
    """Keep what a worker tells; return the cases that are left when it is gone."""
    expected = {case.name: case.seconds for case in CASES}
    left, running, limit = list(names), "", time.time() + 2 * GRACE_SECONDS
    try:
        while True:
            try:
                line = worker.lines.get(timeout=max(min(limit, until) - time.time(), 0.0))
            except queue.Empty:
                said = f"ended after its time; {worker.end()}"
                break
            if line is None:
                said = worker.end()
                break
            if "begun" in line:
                running = line["case"]
                limit = time.time() + PATIENCE * expected[running] + GRACE_SECONDS
                continue
            results.add(line)
            if line.keys() & {"took", "failed", "skipped"}:
                left.remove(line["case"])
                running, limit = "", time.time() + 2 * GRACE_SECONDS
    finally:
        worker.end()
    if not left:
        return []
    if time.time() >= until:
        for name in left:
            reason = "cut off as the time was up" if name == running else "no time is left"
            results.add({"bench": BENCH, "case": name, "skipped": reason})
        return []
    if not running and len(left) < len(names):
        return left  # it left a device that had stopped working
    # What was running, or could not even begin.
    name = running or left[0]
    results.add({"bench": BENCH, "case": name, "failed": said})
    left.remove(name)
    return left


def table(lines: list[Line]) -> str:
    """The lines as Markdown: the machine, figures by case, and what did not work."""
    machine = next((line for line in lines if "commit" in line), {})
    told = ", ".join(f"{key} {value}" for key, value in machine.items() if key != "bench")
    text = [
        "# GPU benchmark",
        "",
        told,
        "",
        "| case | metric | value | unit |",
        "|---|---|---|---|",
    ]
    for line in lines:
        if "metric" in line:
            text.append(f"| {line['case']} | {line['metric']} | {line['value']} | {line['unit']} |")
    for what in ("failed", "skipped"):
        entries = [line for line in lines if what in line]
        if entries:
            text += ["", f"## {what.capitalize()}", ""]
            text += [f"- {line['case']}: {line[what].strip().splitlines()[-1]}" for line in entries]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    sys.exit(main())
