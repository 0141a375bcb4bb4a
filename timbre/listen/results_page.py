"""The page of results: plots of means, preferences and their intervals, and who was left out."""

from collections.abc import Sequence
from typing import NamedTuple

from timbre import pages
from timbre.listen.answers import Answers, Screened
from timbre.listen.figures import (
    Compared,
    Mean,
    differences,
    preferences,
    ratings,
    ratings_by_listener,
)
from timbre.listen.stimuli import ANCHOR

PACKAGE = "timbre.listen"


class Results(NamedTuple):
    """All that a test says.

    Attributes:
        method: ``mushra`` or ``ab``.
        listeners: how many count.
        clips: how many were played.
        left_out: who does not count, and why.
        without_headphones: who failed the headphone check or skipped it; they count.
        ratings: of MUSHRA, the mean of each version, the best first.
        by_listener: the mean of each listener.
        compared: pairs of systems: differences of ratings in points, or shares who prefer the first.
    """

    method: str
    listeners: int
    clips: int
    left_out: list[str]
    without_headphones: list[str]
    ratings: dict[str, Mean]
    by_listener: dict[str, list[float]]
    compared: list[Compared]


def results_of(screened: Screened) -> Results:
    """Return what the answers of the listeners who count say."""
    answers = screened.answers
    method = answers[0].method
    means = ratings(answers)
    systems = [name for name in means if name not in (answers[0].reference, ANCHOR)]
    return Results(
        method,
        len(answers),
        len({trial.clip for one in answers for trial in one.trials}),
        screened.left_out,
        [one.listener for one in answers if not _had_headphones(one)],
        means,
        ratings_by_listener(answers),
        differences(answers, systems) if method == "mushra" else preferences(answers),
    )


def to_html(results: Results) -> str:
    """Return the page."""
    values = {
        "style": pages.own_text("timbre", "pages.css"),
        "results": results,
        "number": number,
        "interval": interval,
        "decided": decided,
    }
    return pages.render(PACKAGE, "results.html.j2", values)


def number(value: float, results: Results) -> str:
    """Return a value in the method's unit: points, or percent of a share."""
    return f"{value:.1f}" if results.method == "mushra" else f"{100 * value:.0f} %"


def interval(mean: Mean, results: Results) -> str:
    """Return an interval, or why there is none."""
    if mean.low is None or mean.high is None:
        return "needs 2 listeners and 2 clips"
    return f"{number(mean.low, results)} to {number(mean.high, results)}"


def decided(one: Compared, results: Results) -> bool:
    """Whether the interval of a comparison says that the first is better."""
    none = 0.0 if results.method == "mushra" else 0.5
    return one.mean.low is not None and one.mean.low > none


def rows(results: Results) -> list[Sequence[str]]:
    """Return the tables' lines for the terminal, a head first."""
    if results.method == "mushra":
        head = ("version", "mean", "95 % interval")
        return [
            head,
            *(
                (name, number(mean.mean, results), interval(mean, results))
                for name, mean in results.ratings.items()
            ),
        ]
    head = ("preferred", "prefer it", "95 % interval")
    return [
        head,
        *(
            (
                f"{one.better} over {one.worse}",
                number(one.mean.mean, results),
                interval(one.mean, results),
            )
            for one in results.compared
        ),
    ]


def _had_headphones(answers: Answers) -> bool:
    return answers.headphones is not None and answers.headphones.passed
