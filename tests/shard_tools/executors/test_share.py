"""Which share of the tasks is a process's: told on the command line, or by a scheduler."""

import os
from collections.abc import Callable

import pytest

from shard_tools.executors.share import Share, find_share
from timbre.errors import ConfigError

Scheduler = Callable[[dict[str, str]], None]


def slurm(task: int, first: int, last: int, count: int) -> dict[str, str]:
    names = {"ID": task, "MIN": first, "MAX": last, "COUNT": count, "STEP": 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


SHARES: list[tuple[str | None, dict[str, str], Share]] = [
    ("0/1", {}, Share(0, 1)),
    ("3/10", {}, Share(3, 10)),
    ("3/10", slurm(1, 0, 4, 5), Share(3, 10)),
    (None, {"TIMBRE_SHARE": "2", "TIMBRE_SHARES": "4"}, Share(2, 4)),
    (None, {"TIMBRE_SHARE": "2", "TIMBRE_SHARES": "4", **slurm(1, 0, 4, 5)}, Share(2, 4)),
    (None, slurm(0, 0, 0, 1), Share(0, 1)),
    (None, slurm(9, 0, 9, 10), Share(9, 10)),
    (None, slurm(1, 1, 10, 10), Share(0, 10)),
    (None, slurm(10, 1, 10, 10), Share(9, 10)),
    (None, {"TIMBRE_SHARES": "10", **slurm(7, 3, 7, 2)}, Share(7, 10)),
    (None, {"TIMBRE_SHARES": "10", **slurm(4, 4, 4, 1)}, Share(4, 10)),
    (None, {"TIMBRE_SHARES": "6", "JOB_COMPLETION_INDEX": "5"}, Share(5, 6)),
    (None, {"TIMBRE_SHARE": "", "TIMBRE_SHARES": "6", "JOB_COMPLETION_INDEX": "0"}, Share(0, 6)),
]

BAD_SHARES: list[tuple[str | None, dict[str, str], str]] = [
    (None, {}, r"--share I/N.*TIMBRE_SHARE=I.*SLURM_ARRAY_TASK_ID.*JOB_COMPLETION_INDEX"),
    (None, {"TIMBRE_SHARES": "4"}, "which share is this"),
    ("3", {}, r"--share 3: expected I/N"),
    ("", {}, "expected I/N"),
    ("a/4", {}, "expected I/N"),
    ("-1/4", {}, "expected I/N"),
    ("4/4", {}, r"--share 4/4: expected shares 0 to N-1"),
    ("0/0", {}, r"expected shares 0 to N-1"),
    (None, {"TIMBRE_SHARE": "2"}, "TIMBRE_SHARE=2: expected TIMBRE_SHARES=N"),
    (None, {"TIMBRE_SHARE": "4", "TIMBRE_SHARES": "4"}, "TIMBRE_SHARE=4 with TIMBRE_SHARES=4"),
    (None, {"TIMBRE_SHARE": "x", "TIMBRE_SHARES": "4"}, "TIMBRE_SHARE=x: expected a whole number"),
    (None, {"JOB_COMPLETION_INDEX": "5"}, "JOB_COMPLETION_INDEX=5: expected TIMBRE_SHARES=N"),
    (None, {"JOB_COMPLETION_INDEX": "5", "TIMBRE_SHARES": "5"}, "expected shares 0 to N-1"),
    (None, {"SLURM_ARRAY_TASK_ID": "3"}, r"expected SLURM_ARRAY_TASK_MIN, .*_MAX, .*_COUNT beside"),
    (None, slurm(7, 3, 7, 2), r"SLURM_ARRAY_TASK_COUNT=2: .*TIMBRE_SHARES=N"),
    (None, slurm(4, 0, 8, 5), r"SLURM_ARRAY_TASK_COUNT=5: .*TIMBRE_SHARES=N"),
    (None, {"TIMBRE_SHARES": "5", **slurm(7, 3, 7, 2)}, "SLURM_ARRAY_TASK_ID=7 with TIMBRE_SHARES"),
]


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    """Sets the variables of a scheduler, and none besides."""
    for name in list(os.environ):
        if name.startswith(("TIMBRE_SHARE", "SLURM_", "JOB_COMPLETION_INDEX")):
            monkeypatch.delenv(name)

    def start(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return start


@pytest.mark.parametrize(("option", "variables", "expected"), SHARES)
def test_the_share_is_what_was_told_or_else_the_scheduler_s(
    scheduler: Scheduler, option: str | None, variables: dict[str, str], expected: Share
) -> None:
    scheduler(variables)
    assert find_share(option) == expected


@pytest.mark.parametrize(("option", "variables", "message"), BAD_SHARES)
def test_a_share_that_is_not_clear_is_refused(
    scheduler: Scheduler, option: str | None, variables: dict[str, str], message: str
) -> None:
    scheduler(variables)
    with pytest.raises(ConfigError, match=message):
        find_share(option)
