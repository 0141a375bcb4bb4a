"""Means over listeners and clips, and how sure they are.

Answers of one listener are alike, and so are answers on one clip, so both are sources of chance: the
variance of a mean is that of the listeners' means over the number of listeners, and that of the
clips' means over the number of clips, less what both hold twice (the variance of a mean in a crossed
design of two random factors; Brennan, Generalizability Theory, 2001). The degrees of freedom are
Satterthwaite's, and no more than the listeners or clips behind the larger part.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timbre.listen.answers import Answers
from timbre.student import student_quantile

CONFIDENCE = 0.95


class Value(NamedTuple):
    """One number that a listener gave for a clip."""

    listener: str
    clip: str
    value: float


class Mean(NamedTuple):
    """A mean and its interval; the interval is None where listeners or clips are fewer than two."""

    mean: float
    low: float | None
    high: float | None
    listeners: int
    clips: int


class Compared(NamedTuple):
    """Two systems, and how much better the first is: a difference, or a share who prefer it."""

    better: str
    worse: str
    mean: Mean


def ratings(answers: Sequence[Answers]) -> dict[str, Mean]:
    """Return the mean MUSHRA rating of every version, the best first."""
    values = _rating_values(answers)
    means = {name: crossed_mean(some, 0.0, 100.0) for name, some in values.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1].mean))


def ratings_by_listener(answers: Sequence[Answers]) -> dict[str, list[float]]:
    """Return of every version the mean rating of each listener."""
    values = _rating_values(answers)
    return {
        name: [float(g.mean()) for g in _grouped((v.listener, v.value) for v in of_name).values()]
        for name, of_name in values.items()
    }


def differences(answers: Sequence[Answers], order: Sequence[str]) -> list[Compared]:
    """Return how much better each version is than each later one in ``order``, part by part."""
    values = {
        name: {(value.listener, value.clip): value.value for value in some}
        for name, some in _rating_values(answers).items()
    }
    return [
        Compared(
            first,
            second,
            crossed_mean(
                [
                    Value(*place, rating - values[second][place])
                    for place, rating in values[first].items()
                    if place in values[second]
                ]
            ),
        )
        for first, second in combinations(order, 2)
    ]


def preferences(answers: Sequence[Answers]) -> list[Compared]:
    """Return for each pair the share who prefer one, 0.5 to 1; no preference is half of each."""
    values: dict[tuple[str, str], list[Value]] = defaultdict(list)
    for one in answers:
        for trial in one.trials:
            pair = tuple(sorted((str(trial.a), str(trial.b))))
            share = 0.5 if trial.preferred is None else float(trial.preferred == pair[0])
            values[pair[0], pair[1]].append(Value(one.listener, trial.clip, share))
    compared = []
    for (first, second), some in sorted(values.items()):
        mean = crossed_mean(some, 0.0, 1.0)
        if mean.mean < 0.5:
            first, second = second, first
            mean = crossed_mean([v._replace(value=1 - v.value) for v in some], 0.0, 1.0)
        compared.append(Compared(first, second, mean))
    return compared


def crossed_mean(
    values: Sequence[Value], lowest: float = -math.inf, highest: float = math.inf
) -> Mean:
    """Return the mean over listeners and clips; its interval stays within ``lowest`` to ``highest``."""
    mean = float(np.mean([value.value for value in values]))
    by_listener = _grouped((v.listener, v.value) for v in values)
    by_clip = _grouped((v.clip, v.value) for v in values)
    listeners, clips = len(by_listener), len(by_clip)
    if listeners < 2 or clips < 2:
        return Mean(mean, None, None, listeners, clips)
    parts = [_error(list(by_listener.values())), _error(list(by_clip.values()))]
    # What both hold: the chance that is neither a listener's nor a clip's.
    rests = [
        v.value - by_listener[v.listener].mean() - by_clip[v.clip].mean() + mean for v in values
    ]
    both = float(np.square(rests).sum()) / ((listeners - 1) * (clips - 1)) / len(values)
    variance = max(sum(parts) - both, *parts)
    degrees = _degrees(parts, (listeners - 1, clips - 1))
    reach = student_quantile(1 - (1 - CONFIDENCE) / 2, degrees) * math.sqrt(variance)
    low, high = max(mean - reach, lowest), min(mean + reach, highest)
    return Mean(mean, low, high, listeners, clips)


def _error(groups: Sequence[NDArray[np.float64]]) -> float:
    """Return the variance of the mean over groups, each weighted by its answers."""
    sums = np.array([group.sum() for group in groups])
    counts = np.array([len(group) for group in groups], dtype=np.float64)
    spread = np.square(sums - sums.sum() / counts.sum() * counts).sum()
    return float(spread * len(groups) / (len(groups) - 1) / counts.sum() ** 2)


def _degrees(parts: Sequence[float], degrees: tuple[int, int]) -> int:
    total = sum(parts)
    if total == 0:
        return min(degrees)
    weight = sum(part**2 / count for part, count in zip(parts, degrees, strict=True))
    return max(1, min(math.floor(total**2 / weight), max(degrees)))


def _rating_values(answers: Sequence[Answers]) -> dict[str, list[Value]]:
    values: dict[str, list[Value]] = defaultdict(list)
    for one in answers:
        for trial in one.trials:
            for name, rating in (trial.ratings or {}).items():
                values[name].append(Value(one.listener, trial.clip, rating))
    return values


def _grouped(pairs: Iterable[tuple[str, float]]) -> dict[str, NDArray[np.float64]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in pairs:
        groups[name].append(value)
    return {name: np.array(group) for name, group in groups.items()}
