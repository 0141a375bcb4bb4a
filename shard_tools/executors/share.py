"""Which share of a job array is this process's."""

import os
import re
from dataclasses import dataclass

from timbre.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """Which part of the tasks is this process's: every ``count``-th one from ``index`` on."""

    index: int
    count: int


def find_share(share: str | None) -> Share:
    """Return the share given as "I/N", or else by the scheduler that started this process.

    Known are TIMBRE_SHARE with TIMBRE_SHARES, Slurm's job arrays and Kubernetes' indexed jobs.

    Raises:
        ConfigError: there is none, or it is not clear how many shares there are.
    """
    if share is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", share)
        if not match:
            raise ConfigError(f"--share {share}: expected I/N with 0 <= I < N, such as 0/10")
        return _check(Share(int(match[1]), int(match[2])), f"--share {share}")
    number, count = _number("TIMBRE_SHARE"), _number("TIMBRE_SHARES")
    if number is not None:
        return _share_of("TIMBRE_SHARE", number, count)
    if (number := _number("SLURM_ARRAY_TASK_ID")) is not None:
        return _slurm_share(number) if count is None else _share_of("SLURM_ARRAY_TASK_ID", number, count)  # fmt: skip
    if (number := _number("JOB_COMPLETION_INDEX")) is not None:
        return _share_of("JOB_COMPLETION_INDEX", number, count)
    raise ConfigError(
        "executor array: which share is this? Expected --share I/N, or TIMBRE_SHARE=I with "
        "TIMBRE_SHARES=N, or a Slurm job array (SLURM_ARRAY_TASK_ID), or a Kubernetes indexed job "
        "(JOB_COMPLETION_INDEX with TIMBRE_SHARES=N)"
    )


def variable(name: str) -> str | None:
    """Return what the environment holds under a name, None where that is nothing."""
    return os.environ.get(name) or None


def _number(name: str) -> int | None:
    """Return a whole number from the environment, None where it is not set."""
    text = variable(name)
    if text is None:
        return None
    if not re.fullmatch(r"\d+", text):
        raise ConfigError(f"{name}={text}: expected a whole number, 0 or more")
    return int(text)


def _slurm_share(number: int) -> Share:
    """Return the share of task ``number`` of an array that is as long as the shares are many."""
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("MIN", "MAX", "COUNT")]
    first, last, count = (_number(name) for name in names)
    if first is None or last is None or count is None:
        raise ConfigError(f"SLURM_ARRAY_TASK_ID={number}: expected {', '.join(names)} beside it")
    if count != last - first + 1:
        raise ConfigError(
            f"SLURM_ARRAY_TASK_COUNT={count}: {count} of the tasks {first}-{last} are a part of an "
            "array, and of how many shares? Expected TIMBRE_SHARES=N as well (the task id is then "
            "the share), or an array without gaps, such as --array=0-9"
        )
    return _check(Share(number - first, count), f"SLURM_ARRAY_TASK_ID={number}")


def _share_of(name: str, number: int, count: int | None) -> Share:
    if count is None:
        raise ConfigError(f"{name}={number}: expected TIMBRE_SHARES=N, the number of shares, as well")  # fmt: skip
    return _check(Share(number, count), f"{name}={number} with TIMBRE_SHARES={count}")


def _check(share: Share, source: str) -> Share:
    if share.index >= share.count:
        raise ConfigError(f"{source}: expected shares 0 to N-1 of N, with N at least 1")
    return share
