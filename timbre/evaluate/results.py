"""What an evaluation leaves: files, examples to listen to, and lines on the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from timbre import storage
from timbre.command import print_result, table
from timbre.errors import WorkError
from timbre.evaluate import cases, headline, intervals, summary, tables
from timbre.evaluate.cases import Case, Labels
from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import FEWEST_SPEAKERS
from timbre.evaluate.measure import HARM, HARM_ALONE, MAIN, Row, Setup
from timbre.evaluate.plain import plain_row, plain_tree, shorten, without_folders
from timbre.evaluate.report.example import Example
from timbre.evaluate.report.page import Content, to_html
from timbre.evaluate.stress import tables as stress_tables
from timbre.evaluate.stress.harm import StressRow
from timbre.evaluate.summary import Finding
from timbre.evaluate.systems import BASELINE, CLEAN, MIX

TITLES = {
    MAIN: "All pairs",
    HARM: "Do no harm: clean speech through the whole chain, DeepFilterNet3 included",
    HARM_ALONE: "Do no harm: clean speech through the checkpoint alone, without the denoiser",
}
# Pairs that the report shows from either end of the ranking, and sides of each beside the clean one.
EXAMPLES_AT_EACH_END, MOST_SIDES = 3, 6
# Print at most this many errors in full.
MAX_PRINTED = 10


class Evaluation(NamedTuple):
    """All pairs measured.

    Attributes:
        facts: what the reader must know of data, systems and troubles.
        rows: one a pair, those that could not be read among them.
        examples: the pairs that gained least and most.
        ranked_by: the system whose gain in mel distance tells them apart.
    """

    facts: Mapping[str, Any]
    rows: Sequence[Row]
    examples: Sequence[Example]
    ranked_by: str


NO_PAIRS = Evaluation({}, [], [], BASELINE)


class Summary(NamedTuple):
    """What all pairs say together: findings by condition, and by group and value."""

    rows: Sequence[Row]
    conditions: Mapping[str, Sequence[Finding]]
    groups: Mapping[str, Mapping[str, Sequence[Finding]]]


def publish(folder: str, evaluation: Evaluation | None, stress: Sequence[StressRow] | None) -> None:
    """Write all results, metrics.json last, and print the most important ones."""
    pairs = evaluation or NO_PAIRS
    facts = plain_tree(pairs.facts)
    totals = _summarise([plain_row(row) for row in pairs.rows if row.error is None])
    texts = {"report.html": to_html(_content(pairs, facts, totals, stress or []))}
    if evaluation is not None:
        texts["pairs.csv"] = tables.pairs_csv(totals.rows)
        texts["groups.csv"] = tables.groups_csv(totals.groups)
    if stress:
        texts["stress.csv"] = stress_tables.to_csv(stress)
    for name, text in texts.items():
        storage.publish(storage.join(folder, name), text.encode())
    more = {"stress": stress_tables.to_tree(stress)} if stress else {}
    tree = tables.to_json({**facts, **more}, totals.conditions, totals.groups)
    storage.publish(storage.join(folder, "metrics.json"), tree)
    if evaluation is not None:
        _print_pairs(facts, totals)
    if stress:
        _print_stress(stress)


def _summarise(rows: Sequence[Row]) -> Summary:
    conditions = {name: some for name in TITLES if (some := summary.summarise(rows, name))}
    groups = {
        group: {value: summary.summarise(some, MAIN) for value, some in values.items()}
        for group, values in summary.groups(rows).items()
    }
    return Summary(rows, conditions, groups)


def _content(
    pairs: Evaluation, facts: Mapping[str, Any], totals: Summary, stress: Sequence[StressRow]
) -> Content:
    main = totals.conditions.get(MAIN, [])
    verdicts = [*headline.headlines(main), *_stress_verdicts(stress)]
    return Content(
        verdicts,
        [without_folders(line) for line in _lines(facts)],
        {TITLES[name]: findings for name, findings in totals.conditions.items()},
        totals.groups,
        totals.rows,
        pairs.examples,
        pairs.ranked_by,
        stress,
    )


def _stress_verdicts(rows: Sequence[StressRow]) -> Iterator[str]:
    """Yield the sentences about checkpoints; the mix with noise is only there to compare with."""
    if rows:
        systems = zip(
            stress_tables.headlines(rows), stress_tables.compared_systems(rows), strict=True
        )
        yield from (line for line, system in systems if not MIX.fullmatch(system))


def _print_pairs(facts: Mapping[str, Any], totals: Summary) -> None:
    """Print the verdict and the key figures of every checkpoint; all else is in the files."""
    print_result("\n".join(_lines(facts)))
    main = totals.conditions.get(MAIN, [])
    for system in headline.checkpoints(main) or [BASELINE]:
        print_result("")
        if system != BASELINE:
            print_result(headline.headline(main, system))
        print_result(table(headline.key_table(main, system), text_columns=2))
    few, fewest = len({summary.speaker_of(row) for row in totals.rows}), FEWEST_SPEAKERS
    if few < fewest:
        print_result(
            f"no verdicts: {few} speakers, and they need {fewest}; prep's val_ratio sets how many"
        )


def _print_stress(rows: Sequence[StressRow]) -> None:
    lines = zip(stress_tables.headlines(rows), stress_tables.compared_systems(rows), strict=True)
    for line, system in lines:
        print_result(f"\n{line}")
        if not MIX.fullmatch(system):
            print_result(table(stress_tables.to_table(rows, system), text_columns=1))


def choose_examples(
    setup: Setup, some: Sequence[Case], rows: Sequence[Row], ranked_by: str
) -> Iterator[Example]:
    """Yield the pairs that gained least and most, run once more."""
    by_key = {case.key: case for case in some}
    chains = setup.chains()
    good_rows = [row for row in rows if row.error is None]
    gains = summary.rank(good_rows, ranked_by)
    worst, best = (
        gains[:EXAMPLES_AT_EACH_END],
        gains[max(EXAMPLES_AT_EACH_END, len(gains) - EXAMPLES_AT_EACH_END) :][::-1],
    )
    figure = summary.figure_of_rank(good_rows)
    what = summary.label_of_rank(figure, ranked_by)
    for end, (gain, row) in [*(("worst", w) for w in worst), *(("best", b) for b in best)]:
        pair = cases.load(by_key[row.key])
        outputs = {name: wave.numpy() for name, wave in chains.outputs(pair).items()}
        # All checkpoints of a long list would make a page of hundreds of megabytes.
        sides = dict(list(outputs.items())[:MOST_SIDES])
        title = f"{shorten(row.key)}: among the {end}, {what} {gain:.3f} {FIGURES[figure].unit}"
        label = ", ".join(_label_texts(plain_row(row).labels))
        yield Example(title, label, {**sides, CLEAN: pair.clean.numpy()})


def count(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the intervals rest on, and what went wrong."""
    good_rows = [row for row in rows if row.error is None]
    unknown = sum(row.labels.speaker is None for row in good_rows)
    return {
        "pairs": len(good_rows),
        "seconds": sum(row.seconds for row in good_rows),
        "speakers": len({row.labels.speaker for row in good_rows} - {None}),
        "pairs_of_unknown_speakers": unknown,
        "pairs_with_clean_input": sum(HARM in row.values for row in good_rows),
        "confidence": intervals.CONFIDENCE,
        "resamples": intervals.RESAMPLES,
        "fewest_speakers_for_a_verdict": intervals.FEWEST_SPEAKERS,
        "troubles": [trouble for row in good_rows for trouble in row.troubles],
        "unreadable": [row.error for row in rows if row.error is not None],
    }


def raise_unreadable(rows: Sequence[Row]) -> None:
    """Do nothing if every pair was measured.

    Raises:
        WorkError: some could not be read; it names the first.
    """
    unreadable = [row.error for row in rows if row.error is not None]
    if unreadable:
        more = [f"and {len(unreadable) - MAX_PRINTED} more"] if unreadable[MAX_PRINTED:] else []
        head = f"{len(unreadable)} of {len(rows)} pairs could not be read:"
        raise WorkError(head, *unreadable[:MAX_PRINTED], *more)


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the reader must know of the evaluation, a line each."""
    for name, value in facts.items():
        if name == "systems_measured":
            for system in value:
                yield "system " + ", ".join(f"{key} {fact}" for key, fact in system.items())
        elif isinstance(value, list):
            if value:
                yield f"{name}: {len(value)}"
                yield from (f"  {text}" for text in value[:MAX_PRINTED])
                if value[MAX_PRINTED:]:
                    yield f"  and {len(value) - MAX_PRINTED} more, in metrics.json"
        else:
            yield f"{name}: {value}"


def _label_texts(labels: Labels) -> Iterator[str]:
    for name, value in labels._asdict().items():
        if value is not None:
            yield f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"
