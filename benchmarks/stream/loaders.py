"""All loaders by turns on the same pairs: CPU time, speed, first batch, memory.

The pairs are two 3-s clips of 16-bit sound at 48 kHz, as WAV and as FLAC, in each loader's own format
(`stream_peers` tells how each is set up). Two jobs: `whole` pairs, and `segment`s of 2 s cut at random,
for which a peer decodes the pair and cuts. 2 workers, batches of 16, everything in the page cache. Ours
shuffles, a peer does not. What is compared is int16 on both sides; peers are also run as those use them
who take what soundfile gives, float32. A measurement is a process of its own; ratios are medians over the
rounds of the ratio within a round. CPU time is of the whole tree of processes, from one batch of a running
stream to another; memory is measured apart, as looking at it costs time, and its own part is without files.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from typing import get_args

from tqdm import tqdm

from benchmarks.report import print_figure, print_line
from benchmarks.stream import data as stream_data
from benchmarks.stream.case import (
    BATCH,
    FLOAT32,
    INT16,
    PAIR_SAMPLES,
    PEERS,
    PEERS_PYTHON,
    SEGMENT_SAMPLES,
    Figures,
    Task,
    last_line,
    run,
    run_for_memory,
    start,
)
from benchmarks.stream.limits import LOADERS as LIMITS
from benchmarks.stream.ours import FOLDER
from benchmarks.stream.plan import BENCH, MEGABYTE, Plan, Ratios
from benchmarks.stream.ratios import (
    DECODING,
    GOALS,
    MAIN,
    NO_HEADER,
    OURS,
    PREAD,
    SEEKING,
    Case,
    compare,
    compare_first_batches,
    name_of,
    print_case,
)
from timbre.shards import AudioFormat

JOBS = {"whole": PAIR_SAMPLES, "segment": SEGMENT_SAMPLES}
PEER_MODULES = {
    "webdataset": f"{PEERS}tars",
    NO_HEADER: f"{PEERS}tars",
    SEEKING: f"{PEERS}tars",
    "lhotse shar": f"{PEERS}shar",
    "mosaicml streaming": f"{PEERS}mosaic",
    "litdata": f"{PEERS}lit",
    "folder": f"{PEERS}folder",
}
MODULES = {
    OURS: "benchmarks.stream.ours",
    **dict.fromkeys(LIMITS, "benchmarks.stream.limits"),
    **PEER_MODULES,
}
WAV_ONLY = {NO_HEADER, *LIMITS} - {PREAD, DECODING}  # of the limits these read nothing
INT16_ONLY = {NO_HEADER, SEEKING}
PAIRS, QUICK_PAIRS = 1024, 192
RESUME_AT = 0.9
# A first batch takes a tenth of a second, of which the scheduler's turns are a part.
FIRST_BATCHES = 3


def measure(folder: str, plan: Plan) -> Ratios:
    """Let all loaders take turns on both formats and both jobs; return how they relate."""
    tasks = prepare(folder, plan)
    results: dict[Case, list[Figures]] = defaultdict(list)
    turns = first_batches(tasks[MAIN], plan) if MAIN in tasks else []
    for number in rounds(plan):
        for case, task in tqdm(tasks.items(), f"round {number}", disable=None):
            results[case].append(run(task))
            cost = results[case][-1].cpu_milliseconds_per_pair
            print_figure(BENCH, name_of(case), f"CPU time in round {number}", cost, "ms/pair")
    for case, figures in results.items():
        print_case(case, figures)
    for case, task in tasks.items() if plan.full else ():
        peak = run_for_memory(task)
        print_figure(BENCH, name_of(case), "peak memory", peak.total / MEGABYTE, "MB, proportional")
        print_figure(BENCH, name_of(case), "of it own", peak.own / MEGABYTE, "MB, proportional")
    return compare(results) | compare_first_batches(turns)


def rounds(plan: Plan) -> Iterator[int]:
    """Yield the numbers of the rounds, while there is time for one as long as the longest so far."""
    first_start, longest = time.monotonic(), 0.0
    for number in range(1, plan.rounds + 1):
        start = time.monotonic()
        if not plan.full and start - first_start + longest > 60 * plan.minutes:
            print_line(bench=BENCH, note=f"{number - 1} of {plan.rounds} rounds: time is up")
            return
        yield number
        longest = max(longest, time.monotonic() - start)


def prepare(folder: str, plan: Plan) -> dict[Case, Task]:
    """Write the pairs in every format that is loaded; return what is to be run."""
    modules = {name: MODULES[name] for name in plan.only or MODULES}
    if not PEERS_PYTHON.exists():
        print_line(bench=BENCH, note=f"no {PEERS_PYTHON}, so no peers: `make peers` makes it")
        modules = {name: module for name, module in modules.items() if name not in PEER_MODULES}
    tasks: dict[Case, Task] = {}
    for audio_format in get_args(AudioFormat):
        stored_folder = f"{folder}/{audio_format}"
        folder_of_ours = f"{stored_folder}/{FOLDER}"
        stored_bytes = stream_data.write_ours(
            folder_of_ours, plan.clips, pairs_of(plan), audio_format
        )
        print_figure(BENCH, audio_format, "stored", stored_bytes / pairs_of(plan), "bytes/pair")
        for module in sorted(set(modules.values()) & set(PEER_MODULES.values())):
            last_line(start(str(PEERS_PYTHON), ["-m", module, stored_folder, audio_format]))
        for job, name, dtype in product(JOBS, modules, (INT16, FLOAT32)):
            case = Case(audio_format, job, name, dtype)
            if has_meaning(case, plan.full):
                task = Task(
                    modules[name], name, stored_folder, audio_format, JOBS[job], dtype=dtype
                )
                tasks[case] = task._replace(warm_up=1, batches=4) if plan.quick else task
    return tasks


def has_meaning(case: Case, full: bool) -> bool:
    """Whether a loader is run on a job: where its name means something; unless full, for the goals."""
    if case.dtype == FLOAT32:
        able = case.loader in PEER_MODULES and case.loader not in INT16_ONLY
        return able and full and case[:2] in GOALS
    if not full and case[:2] not in GOALS:
        return False
    if case.loader == DECODING:
        return case.audio_format == "flac"
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
    return [(start, after_resume) for start, after_resume in turns]


def pairs_of(plan: Plan) -> int:
    """Return how many pairs an epoch has."""
    return QUICK_PAIRS if plan.quick else PAIRS
