"""Measure checkpoints against DeepFilterNet3 alone: over shards, a folder of pairs, or probes.

A pair is measured whole, as ``timbre restore`` would give it. Writes ``pairs.csv``, ``groups.csv``,
``stress.csv``, ``report.html`` and, last, ``metrics.json``. Run it again to continue a run that was
cut short.
"""

import argparse
import sys
from collections.abc import Sequence

from timbre import config as configs
from timbre import storage
from timbre.command import at_least, print_result, print_warning, restartable_command
from timbre.cores import granted_cores
from timbre.denoiser_names import DF3, NAMES, ONNX, check_name
from timbre.errors import ConfigError
from timbre.evaluate import cases, figures, measure, results
from timbre.evaluate.cases import Data
from timbre.evaluate.figures import FIGURES
from timbre.evaluate.measure import UNFINISHED_STRESS, Setup, Store
from timbre.evaluate.results import Evaluation
from timbre.evaluate.sounds import write_sounds
from timbre.evaluate.stress import harm, probes
from timbre.evaluate.stress.harm import StressRow
from timbre.evaluate.systems import (
    BASELINE,
    Chains,
    System,
    describe,
    parse_systems,
    with_references,
)
from timbre.shards import spread


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre evaluate", description=__doc__)
    parser.add_argument(
        "systems",
        metavar="CHECKPOINT|none",
        nargs="+",
        help="best.safetensors or step-*.pt of a training run, offline, causal, "
        "hf://USER/REPOSITORY, or NAME=CHECKPOINT; several are compared; none or df3: "
        "DeepFilterNet3 alone, which is always measured; df3+3%%: that much of the noisy input "
        "mixed into it; noisy: the input, measured wherever it is stored",
    )
    parser.add_argument("--data", help="a manifest, or a folder that holds noisy and clean")
    parser.add_argument(
        "--stress",
        action="store_true",
        help="put probes through every system: noises alone, speech in them, gaps, levels",
    )
    parser.add_argument(
        "--speech", metavar="FOLDER", help="recordings for --stress, in place of made-up voices"
    )
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("--split", default="val", help="which of a manifest (%(default)s)")
    parser.add_argument(
        "--max-pairs", type=at_least(1), metavar="N", help="so many, spread evenly, instead of all"
    )
    parser.add_argument(
        "--max-probes", type=at_least(1), metavar="N", help="the same of the probes of --stress"
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
        "--max-lift-db",
        type=float,
        metavar="DB",
        help="run every checkpoint with this limit in place of its own: how far the output may rise "
        "above DeepFilterNet3's around a frequency",
    )
    parser.add_argument(
        "--sounds",
        type=at_least(1),
        metavar="N",
        help="also write what every system makes of so many pairs, spread evenly, to OUT/sounds; "
        "`timbre listen` makes a test for ears of it",
    )
    parser.add_argument(
        "--denoiser",
        metavar="NAME",
        help=f"what noisy files and probes go through: {', '.join(NAMES)} or {ONNX}:PATH ({DF3}). Of "
        "shards, whose pairs went through one already, the noisy sides are denoised anew",
    )
    parser.add_argument(
        "--workers", type=at_least(1), metavar="N", help="processes (one for each processor)"
    )
    options = parser.parse_args(argv)
    if options.data is None and not options.stress:
        raise ConfigError("nothing to measure: expected --data, --stress or both")
    if options.denoiser is not None:
        try:
            options.denoiser = check_name(options.denoiser)
        except ValueError as error:
            raise ConfigError(f"--denoiser: {error}") from None
    if options.speech is not None and not options.stress:
        raise ConfigError("--speech: needs --stress, whose probes it speaks")
    if options.sounds is not None and options.data is None:
        raise ConfigError("--sounds: needs --data, whose pairs it writes")
    if options.speaker_pattern is not None:
        _check_pattern(options.speaker_pattern)
    return options


@restartable_command
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate ``CHECKPOINT|none ... --data MANIFEST|FOLDER [--stress] --out DIR``."""
    options = _parse(argv)
    systems = parse_systems(options.systems, options.max_lift_db)
    evaluation = stress = None
    if options.data is not None:
        evaluation = _measure_pairs(systems, options)
    if options.stress:
        stress = _measure_stress(systems, options)
    results.publish(options.out, evaluation, stress)
    for name in (measure.UNFINISHED, UNFINISHED_STRESS):
        Store.remove_from(options.out, name)
    print_result(f"written: {options.out}")
    if evaluation is not None:
        results.raise_unreadable(evaluation.rows)


def _measure_pairs(own_systems: Sequence[System], options: argparse.Namespace) -> Evaluation:
    """Return the rows of all pairs, what is known of the run, and examples."""
    data = cases.open_data(options.data, options.split, options.speaker_pattern)
    systems = with_references(own_systems, data.noisy, str(data.facts["data"]))
    denoise = data.denoise or options.denoiser is not None
    if denoise and not data.noisy:
        raise ConfigError(
            f"--denoiser: {options.data}: holds no noisy side; expected shards made with "
            "store_noisy: true"
        )
    names = _usable_figures(options.figures)
    setup = Setup(tuple(systems), denoise, tuple(names), options.denoiser or DF3)
    chains = setup.chains()
    unmeasured = [name for name in data.denoisers if name in NAMES and options.harm_pairs]
    _load(chains, [setup.denoiser] if denoise else unmeasured or [setup.denoiser])
    descriptions = list(describe(systems, chains, data.noisy))
    _check_writable(options.out)
    some = _some(data, options.max_pairs)
    version = f"{data.version} {descriptions} {setup.figures} {options.speaker_pattern}"
    facts: dict[str, object] = dict(data.facts)
    if denoise:
        facts["denoisers"] = setup.denoiser
        if setup.denoiser != BASELINE:
            facts[BASELINE] = f"the name of what {setup.denoiser} alone gives"
        version += f" {setup.denoiser}"
    harm_keys = frozenset(some[n].key for n in spread(len(some), options.harm_pairs))
    rows = measure.measure_all(
        setup, some, harm_keys, _workers(options), Store(options.out, version)
    )
    facts |= {"systems_measured": descriptions, **results.count(rows)}
    ranked_by = next((system.name for system in systems if system.url), BASELINE)
    if options.sounds is not None:
        pairs_to_hear = [some[n] for n in spread(len(some), options.sounds)]
        print_result(f"sounds: {write_sounds(options.out, setup, pairs_to_hear)}")
    examples = list(results.choose_examples(setup, some, rows, ranked_by))
    return Evaluation(facts, rows, examples, ranked_by)


def _measure_stress(own_systems: Sequence[System], options: argparse.Namespace) -> list[StressRow]:
    systems = with_references(own_systems, True, "")
    some = probes.list_probes(options.speech)
    if options.max_probes is not None:
        some = [some[n] for n in spread(len(some), options.max_probes)]
    setup = Setup(tuple(systems), True, (), options.denoiser or DF3)
    chains = setup.chains()
    _load(chains, [setup.denoiser])
    _check_writable(options.out)
    version = f"{list(describe(systems, chains, True))} {options.speech} {setup.denoiser}"
    store = Store(options.out, version, UNFINISHED_STRESS)
    rows = measure.measure_all(setup, some, frozenset(), _workers(options), store)
    results.raise_unreadable(rows)
    return harm.to_rows(some, rows)


def _load(chains: Chains, denoisers: Sequence[str]) -> None:
    """Load the chains behind some denoisers, and print what a user should know of them."""
    for line in chains.load(denoisers):
        print_warning(line)


def _workers(options: argparse.Namespace) -> int:
    return options.workers or granted_cores()


def _usable_figures(names: str | None) -> list[str]:
    """Return the figures that are to be measured, and say which packages the others need.

    Raises:
        ConfigError: one is asked for that there is not, or whose package is missing.
    """
    names_to_use = list(FIGURES) if names is None else names.split(",")
    if unknown := [name for name in names_to_use if name not in FIGURES]:
        raise ConfigError(f"--figures {unknown[0]}: expected some of {', '.join(FIGURES)}")
    gaps = figures.gaps()
    if names is not None and (unusable := [name for name in names_to_use if name in gaps]):
        raise ConfigError(f"--figures {unusable[0]}: {gaps[unusable[0]]}")
    for gap in dict.fromkeys(gaps.values()):
        print_result(f"left out: {gap}")
    return [name for name in FIGURES if name in names_to_use and name not in gaps]


def _some(data: Data, most: int | None) -> list[cases.Case]:
    """Return at most so many cases, evenly spread over all of them."""
    numbers = spread(len(data.cases), len(data.cases) if most is None else most)
    return [data.cases[number] for number in numbers]


def _check_writable(folder: str) -> None:
    """Raise OSError now rather than after the work."""
    probe = storage.join(folder, ".probe")
    storage.publish(probe, b"")
    storage.remove(probe)


def _check_pattern(pattern: str) -> None:
    try:
        configs.check_group(pattern)
    except ValueError as error:
        raise ConfigError(f"--speaker-pattern {error}") from None


if __name__ == "__main__":
    sys.exit(main())
