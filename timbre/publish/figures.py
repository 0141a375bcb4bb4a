"""The figures of a generator, as ``timbre evaluate`` has measured them."""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from timbre import storage
from timbre.errors import ConfigError
from timbre.evaluate.figures import FIGURES
from timbre.evaluate.headline import KEY_FIGURES
from timbre.evaluate.intervals import Estimate
from timbre.evaluate.systems import BASELINE

METRICS = "metrics.json"


class Measured(NamedTuple):
    """One figure over all pairs: the mean, DeepFilterNet3's, and the difference with its interval."""

    name: str
    unit: str
    mean: float
    baseline: float | None
    change: str
    verdict: str


class Evaluation(NamedTuple):
    """An evaluation's figures of one generator, and what they were measured on."""

    data: str
    split: str
    data_sha256: str
    pairs: int
    speakers: int
    figures: tuple[Measured, ...]


def load(folder: str, weights_sha256: str, hint: str) -> Evaluation:
    """Return the figures of the generator with this hash.

    Args:
        folder: the output of ``timbre evaluate``.
        weights_sha256: of the generator's file.
        hint: how such a folder is made.

    Raises:
        ConfigError: there is no such folder, or it holds no figures of this generator over pairs.
    """
    url = storage.join(folder, METRICS)
    try:
        tree = json.loads(storage.read(url))
        systems = tree["systems_measured"]
        name = next((s["name"] for s in systems if s.get("sha256") == weights_sha256), None)
        if name is None:
            others = ", ".join(s["name"] for s in systems if "sha256" in s) or "no checkpoint"
            raise ConfigError(
                f"{url}: measures {others}, none of which has the weights' SHA-256 "
                f"{weights_sha256}; measure them: {hint}"
            )
        return Evaluation(
            PurePosixPath(tree["data"].removesuffix("/manifest.json")).name,
            tree.get("split", "all"),
            tree.get("data_sha256", ""),
            tree["pairs"],
            tree["speakers"],
            tuple(_figures(tree["main"], name)),
        )
    except FileNotFoundError:
        raise ConfigError(
            f"{folder}: no {METRICS}; expected an output of timbre evaluate: {hint}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{url}: not the result of an evaluation over pairs: {type(error).__name__}: {error}; "
            f"expected that of {hint}"
        ) from None


def _figures(main: dict[str, Any], name: str) -> Iterator[Measured]:
    """Yield the figures of one system that have a mean, the most important ones first."""
    own, differences = main["systems"][name], main[f"minus_{BASELINE}"].get(name, {})
    baseline = main["systems"].get(BASELINE, {})
    for figure in dict.fromkeys([*KEY_FIGURES, *FIGURES]):
        if figure not in own or own[figure]["mean"] is None:
            continue
        change = differences.get(figure)
        yield Measured(
            figure,
            FIGURES[figure].unit,
            own[figure]["mean"],
            baseline.get(figure, {}).get("mean"),
            str(Estimate(*(change[field] for field in Estimate._fields))) if change else "",
            change["verdict"] if change else "",
        )
