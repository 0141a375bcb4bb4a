"""How loaders relate: figures of each, ratios within each round, medians of them."""

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import median
from typing import NamedTuple, get_args

from benchmarks.report import print_figure
from benchmarks.stream.case import FLOAT32, INT16, Figures
from benchmarks.stream.plan import BENCH, Ratios
from timbre.shards import AudioFormat

OURS, PREAD, TRANSPORT = "ours", "pread", "transport"
NO_HEADER, SEEKING = "webdataset (header skipped)", "webdataset (seeking)"
BARE_TRANSPORT, DECODING = "transport (untouched)", "libsndfile"
# Not peers, or not as their users have them.
SPECIAL = {OURS, PREAD, TRANSPORT, BARE_TRANSPORT, DECODING, SEEKING}
# The jobs that the project's goals are stated for.
GOALS = {("wav", "whole"): "wav_cpu", ("flac", "segment"): "flac_cpu"}
JOBS = ("whole", "segment")


class Case(NamedTuple):
    """A loader on a job: the format that pairs are stored in, whole pairs or segments, their samples."""

    audio_format: AudioFormat
    job: str
    loader: str
    dtype: str = INT16


Results = Mapping[Case, Sequence[Figures]]
MAIN = Case("wav", "whole", OURS)


def print_case(case: Case, results: Sequence[Figures]) -> None:
    """Print the medians of a loader on a job."""
    cpu, speed, first = (median(figures) for figures in zip(*results, strict=True))
    print_figure(BENCH, name_of(case), "CPU time", cpu, "ms/pair")
    print_figure(BENCH, name_of(case), "speed", speed, "pairs/s")
    print_figure(BENCH, name_of(case), "first batch", first, "s")


def name_of(case: Case) -> str:
    """Return how the figures of a case are headed; samples are int16 if nothing else is said."""
    return ", ".join(case if case.dtype != INT16 else case[:3])


def compare(results: Results) -> Ratios:
    """Return how our CPU time relates to the transport's and to the best peer's, where both were run."""
    ratios: Ratios = {}
    for audio_format, job in product(get_args(AudioFormat), JOBS):
        name = GOALS.get((audio_format, job), f"{audio_format}_{job}_cpu")
        costs = {
            (case.loader, case.dtype): [run.cpu_milliseconds_per_pair for run in runs]
            for case, runs in results.items()
            if case[:2] == (audio_format, job)
        }
        ours = costs.get((OURS, INT16))
        for other, theirs in others_of(costs).items():
            if ours:
                each = zip(ours, theirs, strict=True)
                ratios[f"{name}/ours_to_{other}"] = median(a / b for a, b in each)
    return ratios


def others_of(costs: Mapping[tuple[str, str], Sequence[float]]) -> dict[str, Sequence[float]]:
    """Return what each round cost those whom ours is compared with on a job."""
    others = {}
    alone = (("transport", TRANSPORT), ("libsndfile", DECODING), ("seeking_peer", SEEKING))
    for name, loader in alone:
        if runs := costs.get((loader, INT16)):
            others[name] = runs
    for name, dtype in (("best_peer", INT16), ("best_float_peer", FLOAT32)):
        peers = [one for one in costs if one[1] == dtype and one[0] not in SPECIAL]
        if peers:
            best = min(peers, key=lambda one: median(costs[one]))
            others[name] = costs[best]
    return others


def compare_first_batches(turns: Sequence[tuple[float, float]]) -> Ratios:
    """Print how long first batches took; return how one after a resume relates to one at the start."""
    if not turns:
        return {}
    for where, seconds in zip(("start", "90 %"), zip(*turns, strict=True), strict=True):
        print_figure(
            BENCH, f"{name_of(MAIN)}, {where} of an epoch", "first batch", median(seconds), "s"
        )
    return {
        "first_batch/resume_to_start": median(after_resume / start for start, after_resume in turns)
    }
