"""Measure checkpoints against DeepFilterNet3 alone, over shards or a folder of pairs.

A pair is measured whole, as ``timbre restore`` would give it. Writes ``pairs.csv``, ``groups.csv``,
``report.html`` and, last, ``metrics.json``. What a cut-short run has done is kept: run it again.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from timbre import storage
from timbre.command import at_least, command, say
from timbre.errors import ConfigError, WorkError
from timbre.evaluate import cases, figures, intervals, summary, tables
from timbre.evaluate import measure as jobs
from timbre.evaluate.cases import Data, Labels
from timbre.evaluate.figures import FIGURES
from timbre.evaluate.measure import HARM, HARM_ALONE, MAIN, Job, Row, Store
from timbre.evaluate.report.example import Example
from timbre.evaluate.report.page import Content, to_html
from timbre.evaluate.systems import BASELINE, CLEAN, describe, parse_systems, with_noisy
from timbre.shards import spread

TITLES = {
    MAIN: "All pairs",
    HARM: "Do no harm: clean speech through the whole chain, DeepFilterNet3 included",
    HARM_ALONE: "Do no harm: clean speech through the checkpoint alone, without the denoiser",
}
# Pairs that the report shows from either end of the ranking, and sides of each beside the clean one.
SHOWN, MOST_SIDES = 3, 6
# Of what went wrong so many are told in full.
TOLD = 10


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre evaluate", description=__doc__)
    parser.add_argument(
        "systems",
        metavar="CHECKPOINT|none",
        nargs="+",
        help="best.safetensors or step-*.pt of a training run, or NAME=CHECKPOINT; several are "
        "compared; none or df3: DeepFilterNet3 alone, which is always measured; df3+3%%: that much "
        "of the noisy input mixed into it; noisy: the input, measured wherever it is stored",
    )
    parser.add_argument(
        "--data", required=True, help="a manifest, or a folder that holds noisy and clean"
    )
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("--split", default="val", help="which of a manifest (%(default)s)")
    parser.add_argument(
        "--max-pairs", type=at_least(1), metavar="N", help="so many, spread evenly, instead of all"
    )
    parser.add_argument(
        "--harm-pairs",
        type=at_least(0),
        default=200,
        metavar="N",
        help="of so many, spread evenly, clean speech goes through every system (%(default)s)",
    )
    parser.add_argument(
        "--figures",
        metavar="NAME,...",
        help="only these are measured; the slowest are dnsmos_* (by far), mel_distance, pesq",
    )
    parser.add_argument(
        "--speaker-pattern",
        metavar="REGEX",
        help="its (group) in a folder's file names is the speaker; without it, the folder in noisy/",
    )
    parser.add_argument(
        "--workers", type=at_least(1), metavar="N", help="processes (one for each processor)"
    )
    given = parser.parse_args(argv)
    if given.speaker_pattern is not None:
        _check_pattern(given.speaker_pattern)
    return given


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate ``CHECKPOINT|none ... --data MANIFEST|FOLDER --out DIR``."""
    given = _parse(argv)
    parsed = parse_systems(given.systems)
    data = cases.open_data(given.data, given.split, given.speaker_pattern)
    systems = with_noisy(parsed, data)
    told = list(describe(systems, jobs.loaded_chains(tuple(systems), data.denoise), data))
    names = _usable_figures(given.figures)
    _check_writable(given.out)
    wanted = _some(data, given.max_pairs)
    job = Job(tuple(systems), data.denoise, tuple(names))
    store = Store(given.out, f"{data.version} {told} {job.figures} {given.speaker_pattern}")
    harmed = frozenset(wanted[n].key for n in spread(len(wanted), given.harm_pairs))
    workers = given.workers or os.cpu_count() or 1
    rows = jobs.measure_all(job, wanted, harmed, workers, store)
    facts = {**data.facts, "systems_measured": told, **_count(rows)}
    ranked_by = next((system.name for system in systems if system.url), BASELINE)
    shown = list(_examples(job, wanted, rows, ranked_by))
    _publish(given.out, rows, facts, shown, ranked_by)
    store.remove()
    say(f"written: {given.out}")
    _raise_unreadable(rows)


def _examples(
    job: Job, wanted: Sequence[cases.Case], rows: Sequence[Row], ranked_by: str
) -> Iterator[Example]:
    """Yield the pairs that gained least and most, run once more."""
    by_key = {case.key: case for case in wanted}
    chains = jobs.loaded_chains(job.systems, job.denoise)
    ranked = summary.rank((row for row in rows if row.error is None), ranked_by)
    worst, best = ranked[:SHOWN], ranked[max(SHOWN, len(ranked) - SHOWN) :][::-1]
    what = "minus mel distance" if ranked_by == BASELINE else f"mel distance gained by {ranked_by}"
    for end, (gain, row) in [*(("worst", w) for w in worst), *(("best", b) for b in best)]:
        pair = cases.load(by_key[row.key])
        made = {name: wave.numpy() for name, wave in chains.outputs(pair).items()}
        # All checkpoints of a long list would make a page of hundreds of megabytes.
        shown = dict(list(made.items())[:MOST_SIDES])
        told = ", ".join(_known(row.labels))
        title = f"{row.key}: among the {end}, {what} {gain:.3f} dB"
        yield Example(title, told, {**shown, CLEAN: pair.clean.numpy()})


def _known(labels: Labels) -> Iterator[str]:
    for name, value in labels._asdict().items():
        if value is not None:
            yield f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"


def _publish(
    folder: str,
    rows: Sequence[Row],
    facts: Mapping[str, Any],
    examples: Sequence[Example],
    ranked_by: str,
) -> None:
    """Write all results, and show the most important ones."""
    measured = [row for row in rows if row.error is None]
    conditions = {
        name: findings for name in TITLES if (findings := summary.summarise(measured, name))
    }
    groups = {
        group: {value: summary.summarise(some, MAIN) for value, some in values.items()}
        for group, values in summary.groups(measured).items()
    }
    titled = {TITLES[name]: findings for name, findings in conditions.items()}
    content = Content(list(_lines(facts)), titled, groups, measured, examples, ranked_by)
    texts = {
        "pairs.csv": tables.pairs_csv(measured),
        "groups.csv": tables.groups_csv(groups),
        "report.html": to_html(content),
    }
    for name, text in texts.items():
        storage.publish(storage.join(folder, name), text.encode())
    storage.publish(storage.join(folder, "metrics.json"), tables.to_json(facts, conditions, groups))
    for name, findings in conditions.items():
        say(f"\n{TITLES[name]}:\n{tables.to_text(tables.to_table(findings))}")
    for value, findings in groups.get("bandwidth", {}).items():
        say(f"\nOf voices {value}:\n{tables.to_text(tables.to_table(findings))}")
    say("\n" + "\n".join(_lines(facts)))
    few, fewest = len(_speakers(measured)), intervals.FEWEST_SPEAKERS
    if few < fewest:
        say(f"no verdicts: {few} speakers, and they need {fewest}; prep's val_ratio sets how many")


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be told of the evaluation, a line each."""
    for name, value in facts.items():
        if name == "systems_measured":
            for system in value:
                yield "system " + ", ".join(f"{key} {told}" for key, told in system.items())
        elif isinstance(value, list):
            if value:
                yield f"{name}: {len(value)}"
                yield from (f"  {text}" for text in value[:TOLD])
                if value[TOLD:]:
                    yield f"  and {len(value) - TOLD} more, in metrics.json"
        else:
            yield f"{name}: {value}"


def _count(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the intervals rest on, and what went wrong."""
    measured = [row for row in rows if row.error is None]
    unknown = sum(row.labels.speaker is None for row in measured)
    return {
        "pairs": len(measured),
        "seconds": sum(row.seconds for row in measured),
        "speakers": len({row.labels.speaker for row in measured} - {None}),
        "pairs_of_unknown_speakers": unknown,
        "pairs_with_clean_input": sum(HARM in row.values for row in measured),
        "confidence": intervals.CONFIDENCE,
        "resamples": intervals.RESAMPLES,
        "fewest_speakers_for_a_verdict": intervals.FEWEST_SPEAKERS,
        "troubles": [trouble for row in measured for trouble in row.troubles],
        "unreadable": [row.error for row in rows if row.error is not None],
    }


def _speakers(rows: Sequence[Row]) -> set[str]:
    """Return who is told apart: pairs of unknown speakers count as one each."""
    return {summary.speaker_of(row) for row in rows}


def _usable_figures(asked: str | None) -> list[str]:
    """Return the figures that are to be measured, and say which packages the others need.

    Raises:
        ConfigError: one is asked for that there is not, or whose package is missing.
    """
    names = list(FIGURES) if asked is None else asked.split(",")
    if unknown := [name for name in names if name not in FIGURES]:
        raise ConfigError(f"--figures {unknown[0]}: expected some of {', '.join(FIGURES)}")
    missing = figures.gaps()
    if asked is not None and (lacking := [name for name in names if name in missing]):
        raise ConfigError(f"--figures {lacking[0]}: {missing[lacking[0]]}")
    for gap in dict.fromkeys(missing.values()):
        say(f"left out: {gap}")
    return [name for name in FIGURES if name in names and name not in missing]


def _some(data: Data, most: int | None) -> list[cases.Case]:
    """Return at most so many cases, evenly spread over all of them."""
    numbers = spread(len(data.cases), len(data.cases) if most is None else most)
    return [data.cases[number] for number in numbers]


def _raise_unreadable(rows: Sequence[Row]) -> None:
    unreadable = [row.error for row in rows if row.error is not None]
    if unreadable:
        more = [f"and {len(unreadable) - TOLD} more"] if unreadable[TOLD:] else []
        head = f"{len(unreadable)} of {len(rows)} pairs could not be read:"
        raise WorkError(head, *unreadable[:TOLD], *more)


def _check_writable(folder: str) -> None:
    """Raise OSError now rather than after the work."""
    probe = storage.join(folder, ".probe")
    storage.publish(probe, b"")
    storage.remove(probe)


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigError(f"--speaker-pattern {pattern}: {error}") from None
    if groups < 1:
        raise ConfigError(f"--speaker-pattern {pattern}: expected a (group) that is the speaker")


if __name__ == "__main__":
    sys.exit(main())
