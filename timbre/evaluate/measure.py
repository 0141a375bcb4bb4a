"""All pairs measured, in parallel processes; what is done is kept if the work is cut short."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from tqdm import tqdm

from timbre import storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import TimbreError, WorkError
from timbre.evaluate import cases, figures
from timbre.evaluate.cases import Case, Labels
from timbre.evaluate.systems import CLEAN, Chains, System
from timbre.processes import WorkerDiedError, run_tasks

# The pair itself; clean speech through each whole chain; clean speech through the generator alone.
MAIN, HARM, HARM_ALONE = "main", "harm", "harm_alone"
UNFINISHED = "unfinished.json"
# Counts changes of what figures mean: rows of an older one are not continued.
SCHEMA = 2
SAVE_SECONDS = 30.0
# Pairs that a worker measures before a fresh one takes over: oneDNN keeps code and memory for each
# length of waveform that it meets, some 7 MB a pair with two systems.
LIFE = 100

Values = dict[str, dict[str, dict[str, float]]]


class Job(NamedTuple):
    """What is done to every pair."""

    systems: tuple[System, ...]
    denoise: bool
    figures: tuple[str, ...]


class Row(NamedTuple):
    """What was found of one pair: condition -> system -> figure -> value, NaN where there is none.

    ``troubles`` are what went wrong; ``error`` says why nothing could be measured.
    """

    key: str
    seconds: float
    labels: Labels
    values: Values
    troubles: list[str]
    error: str | None = None


class Store:
    """The rows so far, kept in a folder until they are complete.

    Args:
        folder: where the results go.
        version: changes when anything does that rows depend on.
    """

    def __init__(self, folder: str, version: str) -> None:
        self.url = storage.join(folder, UNFINISHED)
        self.version = hashlib.sha256(f"{SCHEMA} {version}".encode()).hexdigest()
        self.rows: dict[str, Row] = {}
        self._saved = time.monotonic()
        if storage.exists(self.url):
            self._load()

    def add(self, name: str, row: Row) -> None:
        """Keep a row, and from time to time save all."""
        self.rows[name] = row
        if time.monotonic() - self._saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write all rows but those of pairs that could not be read."""
        rows = {name: row._asdict() for name, row in self.rows.items() if row.error is None}
        text = json.dumps({"version": self.version, "rows": rows})
        storage.publish(self.url, text.encode())
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Forget what was saved."""
        if storage.exists(self.url):
            storage.remove(self.url)

    def _load(self) -> None:
        try:
            tree = json.loads(storage.read(self.url))
        except ValueError:
            return
        if isinstance(tree, dict) and tree.get("version") == self.version:
            for name, row in tree["rows"].items():
                self.rows[name] = Row(**{**row, "labels": Labels(*row["labels"])})


def measure_all(
    job: Job, wanted: Sequence[Case], harmed: frozenset[str], workers: int, store: Store
) -> list[Row]:
    """Return a row for every case, in order; those in the store are not measured again.

    Args:
        job: what is done to each.
        wanted: the cases.
        harmed: keys of those whose clean side goes through every system as well.
        workers: processes of one thread each; 1 works in this one.
        store: keeps rows, so that running again continues.

    Raises:
        WorkError: a process died, or no pair could be measured.
    """
    names = {case.key: f"{case.key}{' and harm' if case.key in harmed else ''}" for case in wanted}
    tasks = [
        (job, case, case.key in harmed) for case in wanted if names[case.key] not in store.rows
    ]
    bar = tqdm(
        total=len(wanted), initial=len(wanted) - len(tasks), desc="evaluate", unit="pair",
        disable=None,
    )  # fmt: skip
    try:
        with bar:
            for row in _run(tasks, workers):
                store.add(names[row.key], row)
                bar.update()
    finally:
        store.save()
    rows = [store.rows[names[case.key]] for case in wanted]
    if rows and all(row.error for row in rows):
        raise WorkError(f"none of {len(rows)} pairs could be measured, first {rows[0].error}")
    return rows


def measure_case(job: Job, case: Case, harm: bool) -> Row:
    """Return what is found of one pair, or why nothing is.

    Whatever fails, it costs this pair and no other; a run that only fails ends with an error.
    """
    try:
        return _measure(job, case, harm)
    except (TimbreError, OSError) as error:
        told = str(error)
    except Exception as error:
        told = f"{case.key}: {type(error).__name__}: {error}"
    return Row(case.key, 0.0, Labels(case.speaker, *[None] * 4), {}, [], told)


@lru_cache(maxsize=1)
def loaded_chains(systems: tuple[System, ...], denoise: bool) -> Chains:
    """Return the systems, loaded once in each process."""
    return Chains(systems, denoise)


def _measure(job: Job, case: Case, harm: bool) -> Row:
    pair = cases.load(case)
    chains = loaded_chains(job.systems, job.denoise)
    conditions = {MAIN: chains.outputs(pair)}
    if harm:
        conditions[HARM] = chains.on_clean(pair.clean)
        conditions[HARM_ALONE] = chains.alone_on_clean(pair.clean)
    values: Values = {}
    troubles: list[str] = []
    for condition, outputs in conditions.items():
        names = [n for n in job.figures if condition == MAIN or n in figures.HARM]
        values[condition] = {}
        for system, wave in outputs.items():
            found, bad = figures.measure(wave, pair.clean, pair.counted_hz, names)
            values[condition][system] = found
            troubles += [f"{case.key}: {system} ({condition}): {trouble}" for trouble in bad]
    if highest := figures.measure_alone(pair.clean, job.figures):
        values[MAIN][CLEAN] = highest
    return Row(case.key, len(pair.clean) / SAMPLE_RATE, pair.labels, values, troubles)


Task = tuple[Job, Case, bool]


def _run(tasks: Sequence[Task], workers: int) -> Iterator[Row]:
    """Yield the rows of all tasks as they are done."""
    count = 0 if workers <= 1 and len(tasks) <= LIFE else workers
    for start in range(0, len(tasks), LIFE * max(count, 1)):
        some = tasks[start : start + LIFE * max(count, 1)]
        try:
            yield from (row for _, row in run_tasks(_measure_task, some, count))
        except WorkerDiedError as error:
            raise WorkError(f"{error.task[1].key}: {error}") from None


def _measure_task(task: Task) -> Row:
    return measure_case(*task)
