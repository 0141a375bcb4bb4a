"""The verdict in words, and the figures that matter most: what a reader sees first."""

from collections.abc import Iterator, Sequence

from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import FEWEST_SPEAKERS, Estimate
from timbre.evaluate.summary import Finding
from timbre.evaluate.systems import BASELINE, CLEAN, MIX, NOISY, TENTH

# Most important first; the terminal shows as many as fit.
KEY_FIGURES = (
    "pesq", "estoi", "si_sdr", "zimtohrli", "visqol", "distillmos", "dnsmos_ovrl",
    "over_suppressed", "leak_pauses_db", "lsd_8_24k", "phone_error", "lsd_0_8k", "mel_distance",
    "sibilant_error", "dnsmos_sig", "dnsmos_bak", "speaker_similarity",
)  # fmt: skip
MOST_ROWS = 11
NAME_WIDTH = 12


def checkpoints(findings: Sequence[Finding]) -> list[str]:
    """Return the systems that a verdict is about: neither the input nor a mix of it."""
    names = dict.fromkeys(system for finding in findings for system in finding.differences)
    return [name for name in names if name not in (NOISY, CLEAN) and not MIX.fullmatch(name)]


def headline(findings: Sequence[Finding], system: str) -> str:
    """Return in words what a checkpoint does to DeepFilterNet3's output."""
    rated = [finding for finding in _in_order(findings) if system in finding.verdicts]
    changes = [finding.differences[system] for finding in rated]
    speakers = max((change.speakers for change in changes), default=0)
    pairs = max((change.pairs for change in changes), default=0)
    base = f"{pairs} pairs of {speakers} speakers"
    if speakers < FEWEST_SPEAKERS:
        return f"{system}: no verdict over {base}; it needs {FEWEST_SPEAKERS} speakers"
    by_verdict = {
        word: [_change(finding, system) for finding in rated if finding.verdicts[system] == word]
        for word in ("better", "worse", "fooled", "undecided")
    }
    better, worse = by_verdict["better"], by_verdict["worse"]
    if worse:
        start = f"{system} HARMS" if not better else f"{system} is MIXED"
    else:
        start = f"{system} HELPS" if better else f"{system} changes NOTHING for certain"
    parts = [f"{start} against {BASELINE} over {base}."]
    for word, prefix in (("worse", "Worse"), ("better", "Better")):
        if by_verdict[word]:
            parts.append(f"{prefix}: {', '.join(by_verdict[word])}.")
    if by_verdict["fooled"]:
        parts.append(f"No better than {TENTH}: {', '.join(by_verdict['fooled'])}.")
    if by_verdict["undecided"]:
        parts.append(f"Undecided: {len(by_verdict['undecided'])} figures.")
    return " ".join(parts)


def key_table(findings: Sequence[Finding], system: str) -> list[list[str]]:
    """Return the most important figures of one system, at most 12 rows of 100 columns."""
    name = system if len(system) <= NAME_WIDTH else f"{system[: NAME_WIDTH - 1]}…"
    tenth = any(TENTH in finding.systems for finding in findings)
    head = ["figure", "better if", BASELINE, *([TENTH] if tenth else []), name, "change", "is"]
    table = [head]
    for finding in _in_order(findings)[:MOST_ROWS]:
        figure, change = FIGURES[finding.name], finding.differences.get(system)
        sides = [BASELINE, *([TENTH] if tenth else []), system]
        means = [_mean(finding.systems.get(side)) for side in sides]
        label = f"{finding.name}, {figure.unit}"
        verdict = finding.verdicts.get(system, "")
        table.append([label, figure.better, *means, "" if change is None else str(change), verdict])
    return table


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    by_name = {finding.name: finding for finding in findings}
    first = [by_name[name] for name in KEY_FIGURES if name in by_name]
    return first or list(findings)


def _change(finding: Finding, system: str) -> str:
    mean = finding.differences[system].mean or 0.0
    unit = FIGURES[finding.name].unit
    return f"{finding.name} {mean:+.2f}{'' if unit in ('share', 'cosine') else f' {unit}'}"


def _mean(estimate: Estimate | None) -> str:
    return "" if estimate is None or estimate.mean is None else f"{estimate.mean:.3f}"


def headlines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the verdict of every checkpoint."""
    yield from (headline(findings, system) for system in checkpoints(findings))
