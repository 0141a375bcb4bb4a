"""What ``timbre stats`` prints: tables of a manifest's counts and quantities."""

from collections.abc import Iterator, Mapping
from typing import Any

from timbre.command import table

HASH_LETTERS = 12
COUNTS = {
    "pairs": "pairs",
    "shards": "shards",
    "hours": "hours",
    "pairs_looked_at": "looked at",
    "speakers": "speakers",
    "recordings": "clips",
    "rooms": "rooms",
    "pairs_in_a_room": "in a room",
    "pairs_with_babble": "babble",
    "pairs_with_several_noises": "2-3 noises",
}
# Of which quantities the median is told for each denoiser, where there are several.
BY_DENOISER = ("snr_reached", "offset", "confidence", "kept_level")
MEDIAN = "0.5"
QUANTILE_NAMES = ("least", "5 %", "25 %", "median", "75 %", "95 %", "most")


def to_text(tree: Mapping[str, Any]) -> str:
    """Return what :func:`describe` gives as tables."""
    splits = tree["splits"]
    names = list(next(iter(splits.values()))["figures"]) if splits else []
    blocks = [
        table(
            [
                ["split", *COUNTS.values()],
                *([split, *(_number(d[name]) for name in COUNTS)] for split, d in splits.items()),
            ],
            text_columns=1,
        )
    ]
    if any(d["pairs_looked_at"] < d["pairs"] for d in splits.values()):
        blocks.append("all but pairs, shards and hours is of the pairs looked at, drawn by a seed")
    rows = [
        [f"{name} ({figure['unit']})", split, *map(_number, figure["quantiles"].values())]
        for name in names
        for split, d in splits.items()
        for figure in [d["figures"][name]]
        if figure["pairs"]
    ]
    blocks.append(table([["of a pair", "split", *QUANTILE_NAMES], *rows], text_columns=2))
    blocks.append(table([["denoiser", "split", "pairs"], *_denoisers(splits)], text_columns=2))
    codecs = [
        [name, split, str(pairs)]
        for split, figures in splits.items()
        for name, pairs in figures["codecs"].items()
    ]
    if codecs:
        blocks.append(table([["codec", "split", "pairs"], *codecs], text_columns=2))
    if by_denoiser := list(_medians(splits)):
        head = ["median", "split", "pairs", *BY_DENOISER]
        blocks.append(table([head, *by_denoiser], text_columns=2))
    refusals = [
        [reason, str(d["pairs"]), f"{100 * d['share']:.2f} %"]
        for reason, d in tree["refused_pairs"].items()
    ]
    blocks.append(
        table([["refused pairs", "pairs", "share"], *refusals], text_columns=1)
        if refusals
        else "refused pairs: none"
    )
    clips = [
        [role, reason, str(count)]
        for role, counts in tree["clips"].items()
        for reason, count in counts.items()
    ]
    if clips:
        blocks.append(table([["clips", "", "count"], *clips], text_columns=2))
    return "\n\n".join(blocks)


def _denoisers(splits: Mapping[str, Any]) -> Iterator[list[str]]:
    for split, figures in splits.items():
        for denoiser, pairs in figures["denoisers"].items():
            name, _, sha256 = denoiser.partition(" ")
            yield [f"{name} {sha256[:HASH_LETTERS]}".strip(), split, str(pairs)]


def _medians(splits: Mapping[str, Any]) -> Iterator[list[str]]:
    for split, figures in splits.items():
        for denoiser, summaries in figures["figures_by_denoiser"].items():
            quantiles = [summaries.get(name, {}).get("quantiles", {}) for name in BY_DENOISER]
            numbers = (_number(q[MEDIAN]) if q else "" for q in quantiles)
            yield [denoiser, split, str(summaries["duration"]["pairs"]), *numbers]


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value + 0.0:.4g}"
