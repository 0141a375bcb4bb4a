"""Measure a checkpoint against DeepFilterNet3 alone, over shards or a folder of pairs.

A pair is measured whole, as ``timbre restore`` would give it. Writes ``pairs.csv``,
``report.html`` and, last, ``metrics.json``.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from timbre import audio, metrics, report, shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.command import command, say
from timbre.errors import AudioError, ConfigError
from timbre.metrics import MetricError
from timbre.order import DataSource, open_corpus
from timbre.pairs import PairPlace, holds_noisy
from timbre.report import Direction, Example, Finding, Measured
from timbre.restorer import Restorer
from timbre.whole_pairs import PairList, load_pair

NO_CHECKPOINT = "none"
NOISY, DEGRADED, RESTORED = "noisy", "degraded", "restored"
# Nothing is known of a folder's clean files: all bins count.
FOLDER_BANDWIDTH_HZ = 24_000.0
# Pairs that the report shows from either end of the ranking by mel distance.
SHOWN = 3

Measure = Callable[[Tensor, Tensor, float], Tensor]


class Pair(NamedTuple):
    """Waveforms ``(samples,)`` of every system and of the clean side, and the latter's bandwidth."""

    key: str
    systems: dict[str, Tensor]
    clean: Tensor
    bandwidth_hz: float


class Data(NamedTuple):
    """How each pair is loaded, whether the denoiser is still to run, what to tell of them all.

    ``noisy`` is whether the denoiser's input is at hand.
    """

    loaders: Sequence[Callable[[Restorer], Pair]]
    denoise: bool
    noisy: bool
    facts: Mapping[str, object]


class Figure(NamedTuple):
    """How (estimate, clean, bandwidth_hz) is measured, in which unit, and what is better."""

    measure: Measure
    unit: str
    better: Direction


def _in_band(measure: Callable[..., Tensor], low_hz: float, high_hz: float) -> Measure:
    return lambda estimate, clean, bandwidth_hz: measure(
        estimate, clean, low_hz, high_hz, bandwidth_hz
    )


FIGURES = {
    "pesq": Figure(lambda x, clean, _: metrics.pesq_wideband(x, clean), "MOS", "higher"),
    "estoi": Figure(lambda x, clean, _: metrics.estoi(x, clean), "share", "higher"),
    "si_sdr": Figure(lambda x, clean, _: metrics.si_sdr(x, clean), "dB", "higher"),
    "lsd_0_8k": Figure(_in_band(metrics.log_spectral_distance, 0, 8000), "dB", "lower"),
    "lsd_8_24k": Figure(_in_band(metrics.log_spectral_distance, 8000, 24_000), "dB", "lower"),
    "mel_distance": Figure(metrics.mel_distance, "dB", "lower"),
    "over_suppressed_0_4k": Figure(
        _in_band(metrics.over_suppressed_share, 0, 4000), "share", "lower"
    ),
    "over_suppressed_8_16k": Figure(
        _in_band(metrics.over_suppressed_share, 8000, 16_000), "share", "lower"
    ),
    "leak_db": Figure(metrics.leak_db, "dB", "lower"),
}


def open_data(url: str, split: str) -> Data:
    """Return the pairs of a manifest's split, or of a folder that holds ``noisy`` and ``clean``.

    Raises:
        ConfigError: it is neither, or the folder's files are not in pairs.
        ShardError: the manifest is damaged, or has no such split.
        AudioError: the two files of a pair differ in length.
    """
    if storage.is_folder(storage.join(url, "noisy")):
        return _open_folder(url)
    if not storage.exists(shards.manifest_url(url)):
        raise ConfigError(
            f"{url}: expected a manifest, its folder, or a folder that holds noisy and clean"
        )
    corpus = open_corpus(DataSource(url), split)
    places = list(PairList([corpus]))
    loaders = [partial(_load_place, place) for place in places]
    facts = {"data": url, "split": split, "data_sha256": corpus.manifest_sha256}
    return Data(loaders, denoise=False, noisy=holds_noisy(places[0].entry), facts=facts)


def measure_pair(pair: Pair, names: Sequence[str]) -> Measured:
    """Return the figures of every system."""
    values = {
        system: {
            name: float(FIGURES[name].measure(estimate, pair.clean, pair.bandwidth_hz))
            for name in names
        }
        for system, estimate in pair.systems.items()
    }
    return Measured(pair.key, len(pair.clean) / SAMPLE_RATE, values)


def summarise(rows: Sequence[Measured]) -> list[Finding]:
    """Return what all pairs say of each figure."""
    findings = []
    for name in rows[0].figures[DEGRADED]:
        unit, better = FIGURES[name].unit, FIGURES[name].better
        columns = {
            system: np.array([row.figures[system][name] for row in rows])
            for system in rows[0].figures
        }
        systems = {system: report.estimate(column) for system, column in columns.items()}
        difference = verdict = None
        if RESTORED in columns:
            difference = report.estimate(columns[RESTORED] - columns[DEGRADED])
            verdict = report.judge(difference, better)
        findings.append(Finding(name, unit, better, systems, difference, verdict))
    return findings


def rank(rows: Sequence[Measured]) -> list[tuple[float, int]]:
    """Return (mel distance gained, number) of every pair that has one, the worst first.

    Without a restored side it is the degraded side's own mel distance, negated.
    """
    gains = []
    for number, row in enumerate(rows):
        before = row.figures[DEGRADED]["mel_distance"]
        gain = (
            before - row.figures[RESTORED]["mel_distance"] if RESTORED in row.figures else -before
        )
        if math.isfinite(gain):
            gains.append((gain, number))
    return sorted(gains)


def usable_figures() -> list[str]:
    """Return the figures whose packages are installed, and say what the others need."""
    names = []
    silence = torch.zeros(SAMPLE_RATE // 10)
    for name, figure in FIGURES.items():
        try:
            figure.measure(silence, silence, FOLDER_BANDWIDTH_HZ)
            names.append(name)
        except MetricError as error:
            say(f"left out: {error}")
    return names


def _load_place(place: PairPlace, restorer: Restorer) -> Pair:
    pair = load_pair(place, torch.device("cpu"), restorer.noisy_input)
    systems = _systems(restorer, pair.degraded[0], None if pair.noisy is None else pair.noisy[0])
    return Pair(place.entry.key, systems, pair.clean[0, 0], place.entry.bandwidth_hz)


def _load_files(name: str, noisy_url: str, clean_url: str, restorer: Restorer) -> Pair:
    noisy, clean = (torch.from_numpy(audio.read_mono(url)) for url in (noisy_url, clean_url))
    return Pair(name, {NOISY: noisy, **_systems(restorer, noisy[None])}, clean, FOLDER_BANDWIDTH_HZ)


def _systems(restorer: Restorer, wave: Tensor, noisy: Tensor | None = None) -> dict[str, Tensor]:
    """Return each system's output ``(samples,)`` of ``(1, samples)``; see ``Restorer.process``."""
    both = restorer.process(wave, noisy)
    restored = {} if restorer.generator is None else {RESTORED: both.restored[0]}
    return {DEGRADED: both.denoised[0], **restored}


def _open_folder(url: str) -> Data:
    noisy, clean = (audio.find_below(storage.join(url, side)) for side in ("noisy", "clean"))
    if not noisy:
        raise ConfigError(f"{url}: no audio in noisy")
    if alone := sorted(noisy.keys() ^ clean.keys()):
        more = f" and {len(alone) - 1} more" if alone[1:] else ""
        raise ConfigError(f"{url}: in only one of noisy and clean: {alone[0]}{more}")
    for name in noisy:
        lengths = [_length_at_48_khz(side[name]) for side in (noisy, clean)]
        if lengths[0] != lengths[1]:
            raise AudioError(
                f"{noisy[name]}: {lengths[0]} samples at 48 kHz, but {lengths[1]} in "
                f"{clean[name]}; expected equal lengths"
            )
    loaders = [partial(_load_files, name, noisy[name], clean[name]) for name in noisy]
    facts = {"data": url, "assumed_bandwidth_hz": FOLDER_BANDWIDTH_HZ}
    return Data(loaders, denoise=True, noisy=True, facts=facts)


def _length_at_48_khz(url: str) -> int:
    header = audio.info(url)
    return math.ceil(header.samples * SAMPLE_RATE / header.sample_rate)


def _spread(data: Data, most: int | None) -> Data:
    """Return at most so many pairs, evenly spread over all of them."""
    total = len(data.loaders)
    if most is None or most >= total:
        return data
    numbers = np.linspace(0, total - 1, most).round().astype(int)
    return data._replace(loaders=[data.loaders[number] for number in numbers])


def _check_writable(folder: str) -> None:
    """Raise OSError now rather than after the work."""
    probe = storage.join(folder, ".probe")
    storage.publish(probe, b"")
    storage.remove(probe)


def _examples(data: Data, rows: Sequence[Measured], restorer: Restorer) -> list[Example]:
    ranked = rank(rows)
    worst, best = ranked[:SHOWN], ranked[max(SHOWN, len(ranked) - SHOWN) :]
    what = "minus mel distance" if restorer.generator is None else "gain in mel distance"
    examples = []
    for end, (gain, number) in [*(("worst", w) for w in worst), *(("best", b) for b in best)]:
        pair = data.loaders[number](restorer)
        waves = {name: wave.numpy() for name, wave in pair.systems.items()}
        title = f"{pair.key}: among the {end}, {what} {gain:.3f} dB"
        examples.append(Example(title, {**waves, "clean": pair.clean.numpy()}))
    return examples


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("timbre evaluate", description=__doc__)
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT|none",
        help="best.safetensors or step-*.pt of a training run; none: DeepFilterNet3 alone",
    )
    parser.add_argument(
        "--data", required=True, help="a manifest, or a folder that holds noisy and clean"
    )
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("--split", default="val", help="which of a manifest (%(default)s)")
    parser.add_argument("--max-pairs", type=int, help="so many, spread evenly, instead of all")
    given = parser.parse_args(argv)
    if given.max_pairs is not None and given.max_pairs < 1:
        raise ConfigError(f"--max-pairs {given.max_pairs}: expected at least 1")
    return given


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Evaluate ``CHECKPOINT|none --data MANIFEST|FOLDER --out DIR``."""
    given = _parse(argv)
    data = _spread(open_data(given.data, given.split), given.max_pairs)
    url = None if given.checkpoint == NO_CHECKPOINT else given.checkpoint
    restorer = Restorer.load(url, denoise=data.denoise)
    _check_writable(given.out)
    names = usable_figures()
    rows = [
        measure_pair(load(restorer), names)
        for load in tqdm(data.loaders, "evaluate", unit="pair", disable=None)
    ]
    findings = summarise(rows)
    facts = {
        "checkpoint": url,
        "checkpoint_sha256": shards.sha256(storage.read(url)) if url else None,
        **data.facts,
        # With it and without it a generator is two systems.
        "heard_noisy": data.noisy if restorer.noisy_input else None,
        "pairs": len(rows),
        "confidence": report.CONFIDENCE,
        "resamples": report.RESAMPLES,
    }
    table = report.to_table(findings)
    told = [f"{name}: {value}" for name, value in facts.items() if value is not None]
    page = report.to_html(told, table, _examples(data, rows, restorer))
    storage.publish(storage.join(given.out, "pairs.csv"), report.to_csv(rows).encode())
    storage.publish(storage.join(given.out, "report.html"), page.encode())
    storage.publish(storage.join(given.out, "metrics.json"), report.to_json(findings, facts))
    say("\n".join([*told, report.to_text(table), f"written: {given.out}"]))


if __name__ == "__main__":
    sys.exit(main())
