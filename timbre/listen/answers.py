"""What listeners answered: their files read, and those left out who miss the hidden reference."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic.dataclasses import dataclass

from timbre import config as configs
from timbre import storage
from timbre.config import STRICT, Name
from timbre.errors import ConfigError, WorkError

# ITU-R BS.1534-3, post-screening: who rates the hidden reference below this in more than this share
# of the parts does not hear the differences, or did not look for them.
LEAST_FOR_REFERENCE, MOST_MISSED = 90.0, 0.15


@dataclass(config=STRICT)
class Trial:
    """One part: the ratings of all versions, or which of two is preferred (None: neither)."""

    clip: str
    ratings: dict[str, float] | None = None
    a: str | None = None
    b: str | None = None
    preferred: str | None = None


@dataclass(config=STRICT)
class Headphones:
    """The headphone check: so many right of so many."""

    right: int
    of: int
    passed: bool


@dataclass(config=STRICT)
class Answers:
    """The file that the page gives one listener."""

    format: Literal["timbre listen 1"]
    test: str
    method: Literal["mushra", "ab"]
    reference: str | None
    parts: int
    listener: Name
    headphones: Headphones | None
    started: str
    finished: str
    trials: tuple[Trial, ...]


class Screened(NamedTuple):
    """Listeners whose answers count, and why others are left out."""

    answers: list[Answers]
    left_out: list[str]


def read_answers(urls: Sequence[str]) -> list[Answers]:
    """Return what is in the files of one test's listeners.

    Raises:
        ConfigError: a file is no result, is of another test than the first, or a listener is in
            two of them.
        OSError: a file cannot be read.
    """
    answers: dict[str, tuple[str, Answers]] = {}
    for url in urls:
        one = _read(url)
        if one.listener in answers:
            raise ConfigError(
                f"{url}: listener {one.listener!r} is in {answers[one.listener][0]} too; give one of "
                "the two files, or another name in it"
            )
        first = next(iter(answers.values()), (url, one))
        if one.test != first[1].test:
            raise ConfigError(
                f"{url}: is of test {one.test}, but {first[0]} is of test {first[1].test}; give "
                "results of one test"
            )
        answers[one.listener] = url, one
    return [one for _, one in answers.values()]


def screen(answers: Sequence[Answers]) -> Screened:
    """Return who counts: a MUSHRA listener who does not miss the hidden reference too often.

    Raises:
        WorkError: nobody is left.
    """
    counted, left_out = [], []
    for one in answers:
        misses = sum(
            (trial.ratings or {}).get(str(one.reference), 100.0) < LEAST_FOR_REFERENCE
            for trial in one.trials
        )
        if one.method == "mushra" and misses > MOST_MISSED * len(one.trials):
            left_out.append(
                f"{one.listener}: rated the hidden reference below {LEAST_FOR_REFERENCE:g} in {misses} "
                f"of {len(one.trials)} parts"
            )
        else:
            counted.append(one)
    if not counted:
        raise WorkError("no listener is left:", *left_out)
    return Screened(counted, left_out)


def _read(url: str) -> Answers:
    try:
        tree = json.loads(storage.read(url))
    except ValueError:
        raise ConfigError(f"{url}: expected the JSON file that a listening test saves") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{url}: expected the JSON file that a listening test saves")
    answers = configs.from_tree(Answers, tree, f"{url}: not the file that a listening test saves")
    if reason := _reason_to_refuse(answers):
        raise ConfigError(f"{url}: {reason}")
    return answers


def _reason_to_refuse(answers: Answers) -> str | None:
    if len(answers.trials) != answers.parts:
        return f"has {len(answers.trials)} of {answers.parts} parts; let the listener finish"
    for number, trial in enumerate(answers.trials):
        where = f"trials.{number}"
        if answers.method == "mushra":
            if reason := _bad_ratings(trial.ratings, answers.reference):
                return f"{where}.{reason}"
        elif trial.a is None or trial.b is None or trial.a == trial.b:
            return f"{where}: expected two versions a and b"
        elif trial.preferred not in (trial.a, trial.b, None):
            return f"{where}.preferred {trial.preferred!r}: expected {trial.a}, {trial.b} or null"
    return None


def _bad_ratings(ratings: Mapping[str, Any] | None, reference: str | None) -> str | None:
    if ratings is None or reference not in ratings:
        return f"ratings: expected one of the hidden reference, {reference}"
    for name, rating in ratings.items():
        if not 0 <= rating <= 100:
            return f"ratings.{name} {rating:g}: expected 0 to 100"
    return None
