"""How well a pair's offset is found: `timbre.audio.align` against the plain dot product.

Run as `python -m benchmarks.align [--quick] [--data FOLDER]`. Speech is mixed with noise, goes through
DeepFilterNet3 or not, and is moved by up to 20 ms; both methods then search the same range. An
estimate is right within one sample. Beside that: how many pairs the confidence refuses, how many
wrong offsets it lets pass, and how many pairs of two different recordings it refuses, as it should.
FOLDER holds `speech/` and `noise/` with recordings, which make one more kind of noise; without it the
voices are made up. CPU time is per pair, both methods by turns. The table goes to standard error.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from scipy.signal import correlate  # type: ignore[import-untyped]

from benchmarks.report import print_figure, print_machine, print_ratios
from shard_tools.degrade.degrade import DenoiserConfig, degrade
from shard_tools.mix import mixture as mix
from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.align import MIN_CONFIDENCE, estimate_offset
from timbre.audio.synthetic.noise import NoiseKind, noise
from timbre.audio.synthetic.voice import voice

BENCH = "align"
SYNTHETIC: tuple[NoiseKind, ...] = ("white", "pink", "babble", "clicks")
RECORDINGS = "recorded"
SNRS_DB = (-15.0, -10.0, -5.0, 0.0, 5.0, 10.0)
QUICK_SNRS_DB = (-10.0, 5.0)
SECONDS = (1, 4)
LEVEL_DB = -25.0
MAX_OFFSET = 960
# Before the stretch, for the denoiser to settle; both ends hold what moves in.
LEAD_IN = SAMPLE_RATE
# A stretch is the loudest of so many: a pause has no offset.
TRIES = 3
PERCENT = "% of the pairs"

Side = Literal["noisy", "denoised"]
Draw = tuple[Sequence[Wave], Sequence[Wave]]


class Case(NamedTuple):
    """One cell of the table."""

    side: Side
    seconds: int
    kind: str
    snr_db: float


class Pair(NamedTuple):
    """Both sides ``(samples,)``; ``degraded[n + offset]`` lines up with ``clean[n]``."""

    clean: Wave
    degraded: Wave
    offset: int


class Judgement(NamedTuple):
    """What came of one pair, and of its clean side with the degraded side of another recording."""

    ours_right: bool
    dot_right: bool
    refused: bool
    stranger_refused: bool
    ours_cpu: float
    dot_cpu: float


Results = dict[Case, list[Judgement]]


def main() -> None:
    """Fill the table, print it and the figures of its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="6 pairs a cell and two SNRs")
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="with speech/ and noise/")
    parser.add_argument("--pairs", metavar="N", type=int, help="pairs a cell (40)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    count = options.pairs or (6 if options.quick else 40)
    snrs_db = QUICK_SNRS_DB if options.quick else SNRS_DB
    print_machine(BENCH)
    speech = draw_speech(options.data, count)
    results: Results = {}
    for kind, noises in draw_noises(options.data, count):
        for seconds in SECONDS:
            for snr_db in snrs_db:
                pairs = make_pairs((speech, noises), seconds, snr_db)
                for side in get_args(Side):
                    results[Case(side, seconds, kind, snr_db)] = judge(pairs[side])
    print_table(results)
    print_figures(results)
    print_ratios(BENCH, **sum_up(results))


def draw_speech(data: Path | None, count: int) -> list[Wave]:
    """Return recordings ``(samples,)`` of different voices, or as different as there are."""
    shortest = LEAD_IN + 2 * MAX_OFFSET + max(SECONDS) * SAMPLE_RATE
    if data is None:
        seconds = 1.2 * shortest / SAMPLE_RATE
        return [voice(seconds, np.random.default_rng([0, number])) for number in range(count)]
    return read_some(data / "speech", count, shortest)


def draw_noises(data: Path | None, count: int) -> Iterator[tuple[str, list[Wave]]]:
    """Yield each kind of noise with recordings of it."""
    seconds = (LEAD_IN + 2 * MAX_OFFSET) / SAMPLE_RATE + max(SECONDS)
    for kind in SYNTHETIC:
        # Four voices each: the slowest to make by far.
        different = 4 if kind == "babble" else count
        yield kind, [noise(kind, seconds, np.random.default_rng([1, n])) for n in range(different)]
    if data is not None:
        yield RECORDINGS, read_some(data / "noise", count, 1)


def read_some(folder: Path, count: int, shortest: int) -> list[Wave]:
    """Return recordings that are long enough, from all over a folder."""
    urls = sorted(audio.find_below(str(folder)).values())
    waves: list[Wave] = []
    for at in np.random.default_rng(2).permutation(len(urls)):
        if len(waves) == count:
            break
        wave = audio.read_mono(urls[at])
        if len(wave) >= shortest:
            waves.append(wave)
    if len(waves) < 2:
        raise SystemExit(f"{folder}: expected two recordings of {shortest / SAMPLE_RATE:.1f} s")
    return waves


def make_pairs(draw: Draw, seconds: int, snr_db: float) -> dict[Side, list[Pair]]:
    """Return a pair of each recording of speech, without the denoiser and with it."""
    speech, noises = draw
    samples = seconds * SAMPLE_RATE
    length = LEAD_IN + samples + MAX_OFFSET
    cleans, mixtures, offsets = [], [], []
    for number, wave in enumerate(speech):
        rng = np.random.default_rng([3, number, seconds])
        disturbance = noises[number % len(noises)]
        start = int(rng.integers(len(disturbance)))
        request = mix.Request(snr_db, LEVEL_DB, LEAD_IN)
        stretch = loudest_stretch(wave, length, rng)
        mixture = mix.mix(stretch, stretch, mix.loop(disturbance, start, length), request)
        if mixture is not None:
            cleans.append(mixture.clean[LEAD_IN:][:samples])
            mixtures.append(mixture.noisy)
            # At the end of its range an estimate is refused: the true peak may lie beyond.
            offsets.append(int(rng.integers(-MAX_OFFSET + 1, MAX_OFFSET)))
    denoised = degrade(mixtures, DenoiserConfig(device="cpu"))

    def move(waves: Sequence[Wave]) -> list[Pair]:
        return [
            Pair(clean, wave[LEAD_IN - offset :][:samples], offset)
            for clean, wave, offset in zip(cleans, waves, offsets, strict=True)
        ]

    return {"noisy": move(mixtures), "denoised": move(denoised)}


def loudest_stretch(wave: Wave, length: int, rng: np.random.Generator) -> Wave:
    """Return a stretch ``(length,)`` that is loud behind its lead-in."""
    starts = rng.integers(len(wave) - length + 1, size=TRIES)
    stretches = [wave[start : start + length] for start in starts]
    return max(stretches, key=lambda stretch: audio.level_db(stretch[LEAD_IN:]))


def judge(pairs: Sequence[Pair]) -> list[Judgement]:
    """Return what both methods make of the pairs, taking turns."""
    results = []
    for number, (clean, degraded, offset) in enumerate(pairs):
        start = time.process_time()
        ours = estimate_offset(clean, degraded, MAX_OFFSET)
        between = time.process_time()
        dot = dot_product_offset(clean, degraded)
        end = time.process_time()
        stranger = estimate_offset(clean, pairs[number - 1].degraded, MAX_OFFSET)
        results.append(
            Judgement(
                abs(ours.offset - offset) <= 1,
                abs(dot - offset) <= 1,
                ours.confidence < MIN_CONFIDENCE,
                stranger.confidence < MIN_CONFIDENCE,
                between - start,
                end - between,
            )
        )
    return results


def dot_product_offset(clean: Wave, degraded: Wave) -> int:
    """Return the offset at which the sides' product is largest."""
    products = correlate(degraded, clean, mode="full", method="fft")
    zero = len(clean) - 1
    return int(products[zero - MAX_OFFSET : zero + MAX_OFFSET + 1].argmax()) - MAX_OFFSET


def print_table(results_by_case: Results) -> None:
    """Write the shares that are right to standard error: one row for each kind of noise."""
    snrs_db = sorted({case.snr_db for case in results_by_case})
    fewest = min(len(results) for results in results_by_case.values())
    lines = [f"right within one sample, %: ours / dot product; {fewest} pairs or more in each cell"]
    lines.append(f"{'':26}" + "".join(f"{f'{snr_db:g} dB':>12}" for snr_db in snrs_db))
    for row in sorted({case[:3] for case in results_by_case}):
        cells = [results_by_case[Case(*row, snr_db)] for snr_db in snrs_db]
        shares = [(percent(cell, "ours_right"), percent(cell, "dot_right")) for cell in cells]
        label = f"{row[0]}, {row[1]} s, {row[2]}"
        lines.append(f"{label:26}" + "".join(f"{f'{a:.0f} / {b:.0f}':>12}" for a, b in shares))
    sys.stderr.write("\n".join(lines) + "\n")


def print_figures(results_by_case: Results) -> None:
    """Print the shares of each cell, and those that take many pairs over all cells."""
    for (side, seconds, kind, snr_db), results in results_by_case.items():
        name = f"{side}, {seconds} s, {kind}, {snr_db:g} dB"
        print_figure(BENCH, name, "right", percent(results, "ours_right"), PERCENT)
        print_figure(BENCH, name, "right by dot product", percent(results, "dot_right"), PERCENT)
        print_figure(BENCH, name, "refused", percent(results, "refused"), PERCENT)
    for side, seconds in product(get_args(Side), SECONDS):
        results = gather(results_by_case, side, seconds)
        name = f"{side}, {seconds} s"
        kept_pairs = [one for one in results if not one.refused]
        wrong = len(kept_pairs) - sum(one.ours_right for one in kept_pairs)
        print_figure(BENCH, name, "right", percent(results, "ours_right"), PERCENT)
        print_figure(BENCH, name, "right by dot product", percent(results, "dot_right"), PERCENT)
        print_figure(BENCH, name, "refused", percent(results, "refused"), PERCENT)
        print_figure(BENCH, name, "let pass, but wrong", 100 * wrong / len(results), PERCENT)
        print_figure(
            BENCH, name, "strangers refused", percent(results, "stranger_refused"), PERCENT
        )
        for method, field in [("ours", "ours_cpu"), ("dot product", "dot_cpu")]:
            milliseconds = 1000 * median(getattr(one, field) for one in results)
            print_figure(BENCH, name, f"CPU time, {method}", milliseconds, "ms/pair")


def sum_up(results_by_case: Results) -> dict[str, float]:
    """Return how ours relates to the dot product: shares right, in all and in most noise; CPU time."""
    ratios = {}
    lowest = min(case.snr_db for case in results_by_case)
    most_noise = {
        case: results for case, results in results_by_case.items() if case.snr_db == lowest
    }
    for side, seconds in product(get_args(Side), SECONDS):
        for name, cells in [("right", results_by_case), (f"right_at_{lowest:g}_dB", most_noise)]:
            results = gather(cells, side, seconds)
            right = sum(one.ours_right for one in results), sum(one.dot_right for one in results)
            ratios[f"{name}/{side}_{seconds}_s"] = right[0] / max(right[1], 1)
    for seconds in SECONDS:
        results = gather(results_by_case, "denoised", seconds)
        ratios[f"cpu_time/{seconds}_s"] = median(one.ours_cpu / one.dot_cpu for one in results)
    return ratios


def gather(results_by_case: Results, side: Side, seconds: int) -> list[Judgement]:
    """Return what came of all pairs of a side and a length."""
    return [
        one for case, cell in results_by_case.items() if case[:2] == (side, seconds) for one in cell
    ]


def percent(results: Sequence[Judgement], field: str) -> float:
    """Return for how many pairs a field is true."""
    return 100 * sum(bool(getattr(one, field)) for one in results) / len(results)


if __name__ == "__main__":
    main()
