"""Zimtohrli and ViSQOL: what listeners would say of all 24 kHz, against the clean side.

Both rank DeepFilterNet3 with 10 % of the noise mixed in below DeepFilterNet3, where spectral
distances are fooled. Their packages run here on the pair brought to the working level.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from timbre import packages
from timbre.audio import SAMPLE_RATE, SILENCE_DB, WORKING_LEVEL_DB, active_level_db, gain

Signal = NDArray[np.float32]


def zimtohrli(estimate: Tensor, reference: Tensor) -> float:
    """Return the mean opinion score of ``(samples,)``, 1 to 5; NaN where a side is silent.

    Raises:
        MissingPackageError: ``zimtohrli`` is not installed.
    """
    packages.require("zimtohrli", "Zimtohrli")
    from zimtohrli import mos_from_signals

    sides = _to_level(estimate, reference)
    return np.nan if sides is None else float(mos_from_signals(sides[1], sides[0]))


def visqol(estimate: Tensor, reference: Tensor) -> float:
    """Return ViSQOL's mean opinion score of ``(samples,)``, 1 to 5; NaN where a side is silent.

    Raises:
        MissingPackageError: ``visqol-python`` is not installed.
    """
    packages.require("visqol", "ViSQOL")
    sides = _to_level(estimate, reference)
    if sides is None:
        return np.nan
    first, second = (side.astype(np.float64) for side in sides)
    return float(_visqol().measure_from_arrays(second, first, SAMPLE_RATE).moslqo)


def _to_level(estimate: Tensor, reference: Tensor) -> tuple[Signal, Signal] | None:
    """Return both sides at one gain, the reference at the working level; None if one is silent."""
    first, second = (side.float().cpu().numpy() for side in (estimate, reference))
    level_db = active_level_db(second)
    if level_db <= SILENCE_DB or not first.any() or not np.isfinite(first).all():
        return None
    factor = np.float32(gain(WORKING_LEVEL_DB - level_db))
    return first * factor, second * factor


@cache
def _visqol() -> Any:
    from visqol import VisqolApi

    judge = VisqolApi()
    # Pairs are in time already, and looking for their offset is most of the cost.
    judge.create(mode="audio", disable_global_alignment=True, disable_realignment=True)
    return judge
