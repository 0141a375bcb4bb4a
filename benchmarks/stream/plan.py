"""What the parts of `benchmarks.stream` are given and give."""

from collections.abc import Sequence
from typing import NamedTuple

from timbre.audio import Int16Wave

BENCH = "stream"
MEGABYTE = 1e6

Ratios = dict[str, float]


class Plan(NamedTuple):
    """What to load and how long to measure; ``only`` names the loaders that are measured.

    Without ``full`` loaders run the jobs that goals are stated for, and nothing else. After
    ``minutes`` no further round of loaders begins.
    """

    clips: Sequence[Int16Wave]
    quick: bool
    rounds: int
    only: Sequence[str] | None = None
    full: bool = False
    minutes: float = 5.0
