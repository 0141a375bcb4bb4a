"""One number for a checkpoint, from validation's figures: the best has the lowest."""

import math
from collections.abc import Mapping

from timbre.train.validation.stress import stress_penalty

DISTANCES = ("mel_distance", "lsd_0_8k", "lsd_8_24k")
HARMS = ("lsd_0_8k", "lsd_8_24k")
# SI-SDR may fall this far below DeepFilterNet3's before it counts against a checkpoint.
FREE_SI_SDR_LOSS_DB = 0.3
# What may be done to clean speech for nothing. Chosen, with these figures of 28 real pairs in view: a
# tiny generator that had mended 4 % of the distance was at a share of 0.07 and 34 dB, DeepFilterNet3
# itself (on 8 of them) at 0.55 and 9 dB.
FREE_HARM_SHARE = 0.15
FREE_HARM_SI_SDR_DB = 20.0
HARM_WEIGHT = 0.5
HARM_PER_DB = 0.02


def score(figures: Mapping[str, float]) -> float:
    """Return the composite that the best checkpoint has lowest; 1 is DeepFilterNet3's own output.

    It is the sum of

    - the mean of mel distance and both log-spectral distances, each as a share of the degraded
      side's (1 where none can be measured);
    - one for every dB of SI-SDR lost beyond 0.3 against the degraded side;
    - harm, see :func:`harm_penalty`;
    - noise set free, see :func:`timbre.train.validation.stress.stress_penalty`.

    A figure that no pair has, and that is missing or NaN on the degraded side, is left out: the
    highs of narrow-band data. One that only the restored side lacks is a broken generator's, and
    the score is infinite.

    Args:
        figures: ``val/NAME`` of the restored, ``val/degraded/NAME`` of the degraded side,
            ``val/harm/NAME`` of clean speech put through the generator, ``val/stress/NAME`` of
            probes.
    """
    total = distance(figures) + si_sdr_penalty(figures)
    total += harm_penalty(figures) + stress_penalty(figures)
    return total if math.isfinite(total) else math.inf


def distance(figures: Mapping[str, float]) -> float:
    """Return the mean share of DeepFilterNet3's distances from clean that is left; 1 is all."""
    shares = _shares(figures, "val/", DISTANCES)
    return sum(shares) / len(shares) if shares else 1.0


def si_sdr_penalty(figures: Mapping[str, float]) -> float:
    """Return the dB of SI-SDR lost against DeepFilterNet3 beyond 0.3, at least 0."""
    before = figures.get("val/degraded/si_sdr", math.nan)
    if math.isnan(before):
        return 0.0
    return _above(before - figures["val/si_sdr"], FREE_SI_SDR_LOSS_DB)


def harm_penalty(figures: Mapping[str, float]) -> float:
    """Return how much too much the generator changes speech that was clean already, at least 0.

    Half of the mean log-spectral distance between clean speech and what becomes of it, as a share of
    the degraded side's, beyond 0.15; and 0.02 for every dB by which its SI-SDR is under 20. 0 where
    no harm was measured.
    """
    shares = _shares(figures, "val/harm/", HARMS)
    spectral = _above(sum(shares) / len(shares), FREE_HARM_SHARE) if shares else 0.0
    harm_si_sdr_db = figures.get("val/harm/si_sdr", FREE_HARM_SI_SDR_DB)
    return HARM_WEIGHT * spectral + HARM_PER_DB * _above(FREE_HARM_SI_SDR_DB - harm_si_sdr_db, 0.0)


def _shares(figures: Mapping[str, float], prefix: str, names: tuple[str, ...]) -> list[float]:
    """Return the distances under ``prefix`` relative to the degraded side's, where it has any."""
    return [
        figures[prefix + name] / degraded
        for name in names
        if prefix + name in figures and (degraded := figures.get(f"val/degraded/{name}", 0.0)) > 0
    ]


def _above(value: float, free: float) -> float:
    """Return ``value - free``, at least 0; NaN stays NaN."""
    return 0.0 if value <= free else value - free
