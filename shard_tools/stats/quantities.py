"""What the pairs of a split look like in figures: quantiles, histograms, counts."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from timbre.audio import SAMPLE_RATE
from timbre.denoiser_names import from_record
from timbre.shards import Manifest, PairMeta

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
BINS = 40
TOP_SPEAKERS = 30
NO_NAME = "(no name)"

Metas = Mapping[str, Sequence[PairMeta]]


class Quantity(NamedTuple):
    """One number of a pair, None where it has none."""

    name: str
    unit: str
    of: Callable[[PairMeta], float | None]


QUANTITIES = (
    Quantity("duration", "s", lambda meta: meta.samples / SAMPLE_RATE),
    Quantity("snr_asked", "dB", lambda meta: meta.snr_db),
    Quantity("snr_reached", "dB", lambda meta: meta.snr_reached_db),
    Quantity("offset", "samples", lambda meta: meta.alignment_offset),
    Quantity("confidence", "0 to 1", lambda meta: meta.alignment_confidence),
    Quantity("bandwidth", "kHz", lambda meta: meta.bandwidth_hz / 1000),
    Quantity("clean_level", "dBFS, active speech", lambda meta: meta.quality.get("clean_db")),
    Quantity("kept_level", "dB, degraded over clean", lambda meta: meta.quality.get("kept_db")),
    Quantity("rt60", "s, of pairs in a room", lambda meta: meta.rt60_seconds),
)


def collect(quantity: Quantity, metas: Sequence[PairMeta]) -> list[float]:
    """Return a quantity of every pair that has it."""
    return [value for value in map(quantity.of, metas) if value is not None]


def bin_edges(values: Sequence[float]) -> list[float]:
    """Return the edges of a histogram's bins, around whole numbers where all values are whole."""
    array = np.asarray(values, float)
    edges = np.histogram_bin_edges(array, BINS)
    if np.array_equal(array, np.rint(array)):
        span = array.max() - array.min() + 1
        step = math.ceil(span / BINS)
        edges = array.min() - 0.5 + step * np.arange(math.ceil(span / step) + 1)
    as_floats: list[float] = edges.tolist()
    return as_floats


def describe(manifest: Manifest, metas: Metas) -> dict[str, Any]:
    """Return the figures of a manifest as what JSON can hold; ``metas`` may be a part of each split.

    Pairs, shards and hours are those of the manifest; everything else is of ``metas``. All splits
    share the edges of a histogram.
    """
    edges = {
        quantity.name: bin_edges(values)
        for quantity in QUANTITIES
        if (values := [v for part in metas.values() for v in collect(quantity, part)])
    }
    return {
        "version": manifest.version,
        "splits": {
            split: {
                "pairs": sum(shard.pairs for shard in entries),
                "shards": len(entries),
                "hours": round(sum(shard.seconds for shard in entries) / 3600, 4),
                **_describe_split(metas[split], edges),
            }
            for split, entries in manifest.splits.items()
        },
        "refused_pairs": _shares(manifest),
        "clips": manifest.clips,
    }


def speaker_hours(metas: Sequence[PairMeta]) -> Counter[str]:
    """Return the hours of every speaker."""
    hours: Counter[str] = Counter()
    for meta in metas:
        # A counter of floats is what one needs here, whatever its type says.
        hours[meta.speaker or NO_NAME] += meta.samples / SAMPLE_RATE / 3600  # type: ignore[assignment]
    return hours


def _describe_split(
    metas: Sequence[PairMeta], edges: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    hours = speaker_hours(metas)
    top = dict(hours.most_common(TOP_SPEAKERS))
    return {
        "pairs_looked_at": len(metas),
        "speakers": len(hours.keys() - {NO_NAME}),
        "recordings": len({meta.clean.path for meta in metas}),
        "pairs_in_a_room": sum(meta.rir is not None for meta in metas),
        "rooms": len({meta.rir for meta in metas} - {None}),
        "pairs_with_babble": sum(bool(meta.voices) for meta in metas),
        "pairs_with_several_noises": sum(len(meta.noises) > 1 for meta in metas),
        "codecs": dict(sorted(Counter(meta.codec for meta in metas if meta.codec).items())),
        "figures": {
            quantity.name: _summary(quantity, metas, edges[quantity.name])
            for quantity in QUANTITIES
            if quantity.name in edges
        },
        "denoisers": dict(
            Counter(
                f"{from_record(meta.denoiser)} {meta.denoiser_sha256}".strip() for meta in metas
            )
        ),
        "figures_by_denoiser": _by_denoiser(metas, edges),
        "hours_of_speakers": {
            "largest": {name: round(value, 4) for name, value in top.items()},
            "rest": round(sum(hours.values()) - sum(top.values()), 4),
        },
    }


def _by_denoiser(
    metas: Sequence[PairMeta], edges: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, Any]]:
    """Return denoiser -> quantity -> summary; nothing where all pairs went through the same one."""
    metas_of: dict[str, list[PairMeta]] = {}
    for meta in metas:
        metas_of.setdefault(from_record(meta.denoiser), []).append(meta)
    if len(metas_of) < 2:
        return {}
    return {
        name: {
            quantity.name: _summary(quantity, some, edges[quantity.name])
            for quantity in QUANTITIES
            if quantity.name in edges
        }
        for name, some in sorted(metas_of.items())
    }


def _summary(
    quantity: Quantity, metas: Sequence[PairMeta], edges: Sequence[float]
) -> dict[str, Any]:
    values = np.asarray(collect(quantity, metas), float)
    counts, _ = np.histogram(values, edges)
    quantiles = np.quantile(values, QUANTILES).tolist() if len(values) else []
    return {
        "unit": quantity.unit,
        "pairs": len(values),
        "mean": float(values.mean()) if len(values) else None,
        "quantiles": {f"{q:g}": v for q, v in zip(QUANTILES, quantiles, strict=False)},
        "histogram": {"counts": counts.tolist(), "edges": list(edges)},
    }


def _shares(manifest: Manifest) -> dict[str, dict[str, float]]:
    """Return the refused pairs by reason, most frequent first, and their share of all planned."""
    good_pairs = sum(shard.pairs for entries in manifest.splits.values() for shard in entries)
    pairs_in_plan = good_pairs + sum(manifest.rejected.values())
    reasons = sorted(manifest.rejected.items(), key=lambda item: -item[1])
    return {reason: {"pairs": n, "share": round(n / pairs_in_plan, 6)} for reason, n in reasons}
