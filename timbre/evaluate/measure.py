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
from timbre.denoiser_names import DF3
from timbre.errors import TimbreError, WorkError
from timbre.evaluate import cases, figures
from timbre.evaluate.cases import Case, Labels
from timbre.evaluate.stress import figures as stress_figures
from timbre.evaluate.stress import probes
from timbre.evaluate.stress.probes import Probe
from timbre.evaluate.systems import CLEAN, Chains, System
from timbre.processes import WorkerDiedError, run_tasks

# The pair itself; clean speech through each whole chain; clean speech through the generator alone.
MAIN, HARM, HARM_ALONE = "main", "harm", "harm_alone"
# A probe that was made on the spot.
STRESS = "stress"
UNFINISHED, UNFINISHED_STRESS = "unfinished.json", "unfinished-stress.json"
# Counts changes of what figures mean: rows of an older one are not continued.
SCHEMA = 3
SAVE_SECONDS = 30.0
# Pairs that a worker measures before a fresh one takes over: oneDNN keeps code and memory for each
# length of waveform that it meets, some 7 MB a pair with two systems.
LIFE = 100

Values = dict[str, dict[str, dict[str, float]]]


class Setup(NamedTuple):
    """What is compared, whether pairs come without the denoiser's output, what is measured.

    ``denoiser`` runs where they do, and where nobody knows which one ran.
    """

    systems: tuple[System, ...]
    denoise: bool
    figures: tuple[str, ...]
    denoiser: str = DF3

    def chains(self) -> Chains:
        """Return the systems, loaded once in each process."""
        return loaded_chains(self.systems, self.denoise, self.denoiser)


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
        name: of the file.
    """

    def __init__(self, folder: str, version: str, name: str = UNFINISHED) -> None:
        self.url = storage.join(folder, name)
        self.version = hashlib.sha256(f"{SCHEMA} {version}".encode()).hexdigest()
        self.rows: dict[str, Row] = {}
        self._save_time = time.monotonic()
        self._load()

    def add(self, name: str, row: Row) -> None:
        """Keep a row, and from time to time save all."""
        self.rows[name] = row
        if time.monotonic() - self._save_time > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write all rows but those of pairs that could not be read."""
        rows = {name: row._asdict() for name, row in self.rows.items() if row.error is None}
        text = json.dumps({"version": self.version, "rows": rows})
        storage.publish(self.url, text.encode())
        self._save_time = time.monotonic()

    @staticmethod
    def remove_from(folder: str, name: str) -> None:
        """Forget what was saved in a folder."""
        storage.remove(storage.join(folder, name))

    def _load(self) -> None:
        try:
            tree = json.loads(storage.read(self.url))
        except (FileNotFoundError, ValueError):
            return
        if isinstance(tree, dict) and tree.get("version") == self.version:
            for name, row in tree["rows"].items():
                self.rows[name] = Row(**{**row, "labels": Labels(*row["labels"])})


def measure_all(
    setup: Setup,
    some: Sequence[Case] | Sequence[Probe],
    harm_keys: frozenset[str],
    workers: int,
    store: Store,
) -> list[Row]:
    """Return a row for every case or probe, in order; those in the store are not measured again.

    Args:
        setup: what is done to each.
        some: the cases or probes.
        harm_keys: keys of those whose clean side goes through every system as well.
        workers: processes of one thread each; 1 works in this one.
        store: keeps rows, so that running again continues.

    Raises:
        WorkError: a process died, or no pair could be measured.
    """
    names = {case.key: f"{case.key}{' and harm' if case.key in harm_keys else ''}" for case in some}
    tasks = [
        (setup, case, case.key in harm_keys) for case in some if names[case.key] not in store.rows
    ]
    bar = tqdm(
        total=len(some), initial=len(some) - len(tasks), desc="evaluate", unit="pair",
        disable=None,
    )  # fmt: skip
    try:
        with bar:
            for row in _run(tasks, workers):
                store.add(names[row.key], row)
                bar.update()
    finally:
        store.save()
    rows = [store.rows[names[case.key]] for case in some]
    if rows and all(row.error for row in rows):
        raise WorkError(f"none of {len(rows)} pairs could be measured, first {rows[0].error}")
    return rows


def measure_case(setup: Setup, case: Case | Probe, harm: bool) -> Row:
    """Return the figures of one pair or probe, or why there are none.

    Whatever fails, it costs this pair and no other; a run that only fails ends with an error.
    """
    try:
        if isinstance(case, Probe):
            return _measure_probe(setup, case)
        return _measure(setup, case, harm)
    except (TimbreError, OSError) as error:
        message = str(error)
    except Exception as error:
        message = f"{case.key}: {type(error).__name__}: {error}"
    speaker = case.speaker if isinstance(case, Case) else None
    return Row(case.key, 0.0, Labels(speaker, *[None] * 4), {}, [], message)


@lru_cache(maxsize=1)
def loaded_chains(systems: tuple[System, ...], denoise: bool, denoiser: str) -> Chains:
    """Return the systems, loaded once in each process."""
    return Chains(systems, denoise, denoiser)


def _measure(setup: Setup, case: Case, harm: bool) -> Row:
    pair = cases.load(case)
    chains = setup.chains()
    conditions = {MAIN: chains.outputs(pair)}
    if harm:
        conditions[HARM] = chains.on_clean(pair.clean, pair.labels.denoiser)
        conditions[HARM_ALONE] = chains.alone_on_clean(pair.clean)
    values: Values = {}
    troubles: list[str] = []
    for condition, outputs in conditions.items():
        names = [n for n in setup.figures if condition == MAIN or n in figures.HARM_FIGURES]
        values[condition] = {}
        for system, wave in outputs.items():
            figures_of_it, bad = figures.measure(wave, pair.clean, pair.counted_hz, names)
            values[condition][system] = figures_of_it
            troubles += [f"{case.key}: {system} ({condition}): {trouble}" for trouble in bad]
    if highest := figures.measure_alone(pair.clean, setup.figures):
        values[MAIN][CLEAN] = highest
    labels = pair.labels._replace(denoiser=setup.denoiser) if setup.denoise else pair.labels
    return Row(case.key, len(pair.clean) / SAMPLE_RATE, labels, values, troubles)


def _measure_probe(setup: Setup, probe: Probe) -> Row:
    pair = probes.load(probe)
    values: dict[str, dict[str, float]] = {}
    troubles: list[str] = []
    for system, wave in setup.chains().outputs(pair).items():
        values[system], bad = stress_figures.measure(wave, pair.clean)
        troubles += [f"{probe.key}: {system}: {trouble}" for trouble in bad]
    return Row(probe.key, len(pair.clean) / SAMPLE_RATE, pair.labels, {STRESS: values}, troubles)


Task = tuple[Setup, Case | Probe, bool]


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
