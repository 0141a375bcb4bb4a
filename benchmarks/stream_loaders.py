"""All loaders by turns on the same pairs: CPU time, speed, first batch, memory.

The pairs are two 3-s clips of 16-bit sound at 48 kHz, as WAV and as FLAC, in each loader's own format
(`stream_peers` tells how each is set up). Two jobs: `whole` pairs, and `segment`s of 2 s cut at random,
for which a peer decodes the pair and cuts. 2 workers, batches of 16, everything in the page cache. Ours
shuffles, a peer does not. A measurement is a process of its own; ratios are medians over the rounds of
the ratio within a round. CPU time is of the whole tree of processes, from one batch of a running stream
to another; memory is measured apart, as looking at it costs time, and its own part is without files.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import median
from typing import NamedTuple, get_args

from benchmarks import stream_data
from benchmarks.report import print_figure, print_line
from benchmarks.stream_case import (
    BATCH,
    PAIR_SAMPLES,
    PEERS,
    PEERS_PYTHON,
    SEGMENT_SAMPLES,
    Measured,
    Task,
    last_line,
    run,
    run_for_memory,
    start,
)
from benchmarks.stream_limits import LOADERS as LIMITS
from benchmarks.stream_ours import FOLDER
from benchmarks.stream_plan import BENCH, MEGABYTE, Plan, Ratios
from timbre.shards import AudioFormat

JOBS = {"whole": PAIR_SAMPLES, "segment": SEGMENT_SAMPLES}
OURS, PREAD, TRANSPORT = "ours", "pread", "transport"
HEADER_SKIPPED, SEEKING = "webdataset, header skipped", "webdataset, seeking"
PEER_MODULES = {
    "webdataset": f"{PEERS}tars",
    HEADER_SKIPPED: f"{PEERS}tars",
    SEEKING: f"{PEERS}tars",
    "lhotse shar": f"{PEERS}shar",
    "mosaicml streaming": f"{PEERS}mosaic",
    "litdata": f"{PEERS}lit",
    "folder": f"{PEERS}folder",
}
WAV_ONLY = {HEADER_SKIPPED, *LIMITS} - {PREAD}  # of the limits these read nothing
QUICK_JOBS = {("wav", "whole"), ("flac", "segment")}
# The jobs that the project's goals are stated for.
NAMES = {("wav", "whole"): "wav_cpu", ("flac", "segment"): "flac_cpu"}
PAIRS, QUICK_PAIRS = 1024, 192
RESUME_AT = 0.9
# A first batch takes a tenth of a second, of which the scheduler's turns are a part.
FIRST_BATCHES = 3


class Case(NamedTuple):
    """A loader on a job: the format that pairs are stored in, and whole pairs or segments."""

    audio_format: AudioFormat
    job: str
    loader: str


Results = Mapping[Case, Sequence[Measured]]
MAIN = Case("wav", "whole", OURS)


def measure(folder: str, plan: Plan) -> Ratios:
    """Let all loaders take turns on both formats and both jobs; return how they relate."""
    tasks = prepare(folder, plan)
    results: dict[Case, list[Measured]] = defaultdict(list)
    begun: list[tuple[float, float]] = []
    for _ in range(plan.rounds):
        for case, task in tasks.items():
            results[case].append(run(task))
        if MAIN in tasks:
            begun += first_batches(tasks[MAIN], plan)
    for case, measured in results.items():
        print_case(case, measured)
    for case, task in tasks.items() if not plan.quick else ():
        peak = run_for_memory(task)
        print_figure(BENCH, name_of(case), "peak memory", peak.total / MEGABYTE, "MB, proportional")
        print_figure(BENCH, name_of(case), "of it own", peak.own / MEGABYTE, "MB, proportional")
    return compare(results) | compare_begun(begun)


def prepare(folder: str, plan: Plan) -> dict[Case, Task]:
    """Write the pairs in every format that is loaded; return what is to be run."""
    modules = {OURS: "benchmarks.stream_ours", **dict.fromkeys(LIMITS, "benchmarks.stream_limits")}
    if PEERS_PYTHON.exists():
        modules |= PEER_MODULES
    else:
        print_line(bench=BENCH, note=f"no {PEERS_PYTHON}, so no peers: `make peers` makes it")
    modules = {n: module for n, module in modules.items() if plan.only is None or n in plan.only}
    tasks: dict[Case, Task] = {}
    for audio_format in get_args(AudioFormat):
        stored = f"{folder}/{audio_format}"
        folder_of_ours = f"{stored}/{FOLDER}"
        stored_bytes = stream_data.write_ours(
            folder_of_ours, plan.clips, pairs_of(plan), audio_format
        )
        print_figure(BENCH, audio_format, "stored", stored_bytes / pairs_of(plan), "bytes/pair")
        for module in sorted(set(modules.values()) & set(PEER_MODULES.values())):
            last_line(start(str(PEERS_PYTHON), ["-m", module, stored, audio_format]))
        for (job, samples), (name, module) in product(JOBS.items(), modules.items()):
            if is_meant(case := Case(audio_format, job, name), plan.quick):
                task = Task(module, name, stored, audio_format, samples)
                tasks[case] = task._replace(warm_up=1, batches=4) if plan.quick else task
    return tasks


def is_meant(case: Case, quick: bool) -> bool:
    """Whether a loader is run on a job: where its name means something, and if quick on the main two."""
    if quick and case[:2] not in QUICK_JOBS:
        return False
    if case.loader in WAV_ONLY:
        return case.audio_format == "wav"
    return case.loader != SEEKING or case.job == "segment"


def first_batches(task: Task, plan: Plan) -> list[tuple[float, float]]:
    """Return seconds to the first batch at an epoch's start and after a resume late in it, by turns."""
    late = int(RESUME_AT * pairs_of(plan) / BATCH)
    only_first = task._replace(warm_up=0, batches=0)
    turns = [
        [run(only_first._replace(first_step=step)).first_batch_seconds for step in (0, late)]
        for _ in range(1 if plan.quick else FIRST_BATCHES)
    ]
    return [(start, resumed) for start, resumed in turns]


def pairs_of(plan: Plan) -> int:
    """Return how many pairs an epoch has."""
    return QUICK_PAIRS if plan.quick else PAIRS


def print_case(case: Case, measured: Sequence[Measured]) -> None:
    """Print the medians of a loader on a job."""
    cpu, speed, first = (median(figures) for figures in list(zip(*measured, strict=True))[:3])
    print_figure(BENCH, name_of(case), "CPU time", cpu, "ms/pair")
    print_figure(BENCH, name_of(case), "speed", speed, "pairs/s")
    print_figure(BENCH, name_of(case), "first batch", first, "s")
    if measured[0].dtype != "int16":
        print_line(bench=BENCH, note=f"{name_of(case)}: {measured[0].dtype}, not int16")


def name_of(case: Case) -> str:
    """Return how the figures of a case are headed."""
    return ", ".join(case)


def compare(results: Results) -> Ratios:
    """Return how our CPU time relates to the transport's and to the best peer's, where both were run."""
    ratios: Ratios = {}
    for audio_format, job in product(get_args(AudioFormat), JOBS):
        here = {
            case.loader: runs for case, runs in results.items() if case[:2] == (audio_format, job)
        }
        name = NAMES.get((audio_format, job), f"{audio_format}_{job}_cpu")
        fair = {
            peer: runs for peer, runs in here.items() if peer in PEER_MODULES and peer != SEEKING
        }
        others = {"transport": here.get(TRANSPORT), "seeking_peer": here.get(SEEKING)}
        if fair:
            best = min(
                fair, key=lambda peer: median(run.cpu_milliseconds_per_pair for run in fair[peer])
            )
            print_line(bench=BENCH, note=f"{audio_format}, {job}: the best peer is {best}")
            others["best_peer"] = fair[best]
        for other, runs in others.items():
            if runs and OURS in here:
                ratios[f"{name}/ours_to_{other}"] = ratio(here[OURS], runs)
    return ratios


def ratio(ours: Sequence[Measured], theirs: Sequence[Measured]) -> float:
    """Return the median over the rounds of how our CPU time relates to theirs."""
    both = zip(ours, theirs, strict=True)
    return median(a.cpu_milliseconds_per_pair / b.cpu_milliseconds_per_pair for a, b in both)


def compare_begun(begun: Sequence[tuple[float, float]]) -> Ratios:
    """Print how long first batches took; return how one after a resume relates to one at the start."""
    if not begun:
        return {}
    for where, seconds in zip(("start", "90 %"), zip(*begun, strict=True), strict=True):
        print_figure(
            BENCH, f"{name_of(MAIN)}, {where} of an epoch", "first batch", median(seconds), "s"
        )
    return {"first_batch/resume_to_start": median(resumed / start for start, resumed in begun)}
