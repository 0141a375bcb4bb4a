"""Wall time of a run, divided by what it was spent on, over all its starts."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from timbre import storage
from timbre.errors import WorkError
from timbre.train.watch import time_log
from timbre.train.watch.time_log import DATA, SAVES, VALIDATION

# Kinds of time, and what each means.
MEANINGS = {
    "steps": "both networks learn; what is left of the wall time",
    "skipped steps": "steps whose gradient was not finite, by their number",
    "data wait": "the slowest rank waits for its batch",
    "validation": "validation pairs are measured",
    "saves": "training waits for a copy of its state, or for the save before",
    "start-ups": "from the start of a process to its first step",
    "lost to restarts": "after the checkpoint that the next start went on from: done again",
    "between starts": "no process runs, or one has died without a word: queues, repairs",
}
USEFUL = "steps"


class Mark(NamedTuple):
    """A moment of a start: when, at which step, and seconds spent by then."""

    time: float
    step: float
    data: float
    validation: float
    saves: float
    skipped: float


class Start(NamedTuple):
    """One start of a run, from the beginning of its process on."""

    began: float
    ranks: int
    steps: int
    marks: list[Mark]


class Goodput(NamedTuple):
    """What the wall time of a run was spent on.

    Attributes:
        seconds: by kind, in the order of ``MEANINGS``; wall time.
        rank_seconds: the same times the ranks that each start had.
        starts: how many there were.
        step, steps: where the run is, and where it ends.
    """

    seconds: dict[str, float]
    rank_seconds: dict[str, float]
    starts: int
    step: int
    steps: int

    @property
    def total(self) -> float:
        """Return the wall time in seconds."""
        return sum(self.seconds.values())

    def share(self, kind: str) -> float:
        """Return a kind's share of the wall time."""
        return self.seconds[kind] / self.total if self.total else 0.0

    def perfect_loader(self) -> float:
        """Return how many times as fast the run would be if nobody ever waited for data."""
        rest = self.total - self.seconds["data wait"]
        return self.total / rest if rest > 0 else 1.0


def load(run_dir: str) -> Goodput | None:
    """Return the goodput of a run; None if its folder has no times.

    Raises:
        WorkError: the file holds something else.
    """
    url = storage.join(run_dir, time_log.NAME)
    try:
        text = storage.read(url).decode(errors="replace")
    except FileNotFoundError:
        return None
    starts = parse(text.splitlines())
    if not starts:
        raise WorkError(f"{url}: no start of a run in it; expected JSON lines that training wrote")
    return divide(starts)


def parse(lines: Iterable[str]) -> list[Start]:
    """Return the starts in the lines of a time log; half a line, left by a kill, is passed over."""
    starts: list[Start] = []
    for line in lines:
        try:
            fields = json.loads(line)
            _take(fields, starts)
        except (ValueError, KeyError, TypeError):
            continue
    return starts


def _take(fields: dict[str, Any], starts: list[Start]) -> None:
    time = float(fields["time"])
    if fields["kind"] == "start":
        began, step = float(fields["began"]), float(fields["step"])
        mark = Mark(time, step, 0.0, 0.0, 0.0, 0.0)
        starts.append(Start(began, int(fields["ranks"]), int(fields["steps"]), [mark]))
    elif starts:
        spent = (float(fields[name]) for name in (DATA, VALIDATION, SAVES, "skipped"))
        starts[-1].marks.append(Mark(time, float(fields["step"]), *spent))


def divide(starts: Sequence[Start]) -> Goodput:
    """Return what the wall time of all starts was spent on."""
    seconds, rank_seconds = dict.fromkeys(MEANINGS, 0.0), dict.fromkeys(MEANINGS, 0.0)
    skipped = 0.0  # the count goes on over restarts
    for number, start in enumerate(starts):
        following = starts[number + 1] if number + 1 < len(starts) else None
        last = start.marks[-1]
        last_saved = last if following is None else _at(start.marks, following.marks[0].step)
        if number:  # one process may start a run again
            start = start._replace(began=max(start.began, starts[number - 1].marks[-1].time))
        mine = _divide_start(start, last_saved, skipped)
        skipped = last_saved.skipped or skipped
        mine["lost to restarts"] = last.time - last_saved.time
        if following is not None:
            mine["between starts"] = max(following.began - last.time, 0.0)
        for kind, value in mine.items():
            seconds[kind] += value
            # While no process runs, no rank is held.
            rank_seconds[kind] += value * (start.ranks if kind != "between starts" else 0)
    end = starts[-1]
    return Goodput(seconds, rank_seconds, len(starts), int(end.marks[-1].step), end.steps)


def _divide_start(start: Start, last_saved: Mark, skipped_before: float) -> dict[str, float]:
    first = start.marks[0]
    learning = max(
        last_saved.time - first.time - last_saved.data - last_saved.validation - last_saved.saves,
        0.0,
    )
    steps = last_saved.step - first.step
    skipped = max(last_saved.skipped - skipped_before, 0.0) / steps if steps > 0 else 0.0
    return {
        "steps": learning * (1 - min(skipped, 1.0)),
        "skipped steps": learning * min(skipped, 1.0),
        "data wait": last_saved.data,
        "validation": last_saved.validation,
        "saves": last_saved.saves,
        "start-ups": max(first.time - start.began, 0.0),
    }


def _at(marks: Sequence[Mark], step: float) -> Mark:
    """Return the moment at which a step was reached, between the marks around it."""
    if step >= marks[-1].step:
        return marks[-1]
    reached = next((n for n, mark in enumerate(marks) if mark.step > step), 0)
    if reached == 0:
        return marks[0]
    before, after = marks[reached - 1], marks[reached]
    share = (step - before.step) / (after.step - before.step)
    values = (b + share * (a - b) for b, a in zip(before, after, strict=True))
    return Mark(*values)


def table(goodput: Goodput) -> list[list[str]]:
    """Return rows for the terminal and the page, the head first: hours and shares by kind."""
    rows = [["", "wall time", "share", "rank hours"]]
    for kind, value in goodput.seconds.items():
        hours = f"{goodput.rank_seconds[kind] / 3600:.2f}"
        rows.append([kind, duration(value), f"{goodput.share(kind):.1%}", hours])
    hours = f"{sum(goodput.rank_seconds.values()) / 3600:.2f}"
    return [*rows, ["in all", duration(goodput.total), "100.0%", hours]]


def sentences(goodput: Goodput) -> list[str]:
    """Return the most important in words: the useful share, and what a perfect loader would give."""
    faster = goodput.perfect_loader() - 1
    starts = f"{goodput.starts} start{'s' * (goodput.starts != 1)}"
    return [
        f"Step {goodput.step} of {goodput.steps} after {starts} and {duration(goodput.total)}: "
        f"{goodput.share(USEFUL):.1%} of the wall time went into steps.",
        f"A perfect loader would give {faster:.1%} more steps in the same time.",
    ]


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds >= 3600:
        return f"{seconds / 3600:.2f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
