"""How fast shards are made: stage by stage, and against a script that takes one clip after another.

Run as `python -m benchmarks.prep [--quick] [--data FOLDER] [--shards N]`. FOLDER holds `speech/`,
`noise/` and `rir/`; without it a corpus is made up, a half of its speech at 44.1 kHz. Both sides are
given the same stretches of speech and one thread, take turns in one process, and have the allocator
that workers have. Rates are seconds of speech by seconds of CPU time, medians over the rounds; ours
counts what is stored, so the pairs that it refuses are a loss. The script has no lead-in and judges
nothing; it needs no scan and opens no job, whose times are told apart and, the scan's, are in the cost.
The memory is that of worker processes, as `timbre prep` starts them.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import torch

from benchmarks.per_clip_script import run_script
from benchmarks.report import print_figure, print_line, print_machine, print_ratios
from benchmarks.stages import DENOISE, SCAN, STAGES, stage_clocks
from shard_tools.config import PrepConfig
from shard_tools.degrade.degrade import DenoiserConfig, weights_hash
from shard_tools.executors.local import ALLOCATOR, run_local
from shard_tools.executors.share import Share
from shard_tools.make import shard as make
from shard_tools.make.job import open_job, shard_task
from shard_tools.make.shard import ShardSettings, ShardTask
from shard_tools.plan import editions, plan
from tests.help.official_deepfilternet import INSTALLED, Official
from timbre import audio, shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.corpus import write_corpus
from timbre.shards import ShardIndex

Cost = tuple[str, float, str]

BENCH = "prep"
SPEAKERS, CLIPS, QUICK_CLIPS = 6, 6, 1
CLIP_SECONDS, VARIANTS = 5.5, 8
OTHER_RATE = 44_100
# As long as pieces get with the usual segment of 4 s.
LONGEST_SECONDS = 8.0
SMALL_SECONDS, SMALL_PAIRS = 0.5, 2
WORKERS = 2
GIGABYTE, MOST_MEMORY = 1e9, 2.5e9
HOURS, CORES = 1000, 64
PAIR_RATE, AUDIO_RATE = "1/core-second", "x real time on one core"


class Turn(NamedTuple):
    """What one side made of a shard's pieces: seconds of speech, of CPU time, of the wall clock."""

    pairs: int
    speech: float
    cpu: float
    wall: float


class OpenEdition(NamedTuple):
    """An edition ready to be made; its clips cut as usual, into long pieces, into short ones."""

    job: ShardSettings
    tasks: list[ShardTask]
    long: list[ShardTask]
    small: list[ShardTask]
    # CPU seconds of the scan by seconds of speech.
    scan_cost: float


def main() -> None:
    """Measure the stages, both sides and the workers' memory; print figures and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 16 pairs, not 5 of 64")
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="with speech/, noise/, rir/")
    parser.add_argument("--shards", metavar="N", type=int, help="small ones by each worker (500)")
    options = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        # The allocator reads them once, when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ALLOCATOR})
    torch.set_num_threads(1)
    rounds, pairs, count = (2, 16, 20) if options.quick else (5, 64, 500)
    print_machine(BENCH)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or make_corpus(Path(folder) / "corpus", options.quick)
        config = PrepConfig(
            speech=str(data / "speech"),
            noise=str(data / "noise"),
            rir=str(data / "rir"),
            output=f"{folder}/shards",
            variants=1 if options.data else VARIANTS,
            workers=1,  # in this process, whose clock is read
            shard_pairs=pairs,
            denoiser=DenoiserConfig(device="cpu"),
        )
        # Long clips have long pieces among the usual ones; those made up are not long enough.
        long = config.save_segment_seconds if options.data else LONGEST_SECONDS
        with redirect_stdout(sys.stderr):
            work, costs = open_edition(config, long)
        for case, value, unit in costs:
            print_figure(BENCH, case, "speed" if case == "scan" else "once", value, unit)
        ratios = compare(work, data, rounds)
        ratios |= measure_memory(work, options.shards or count)
    print_ratios(BENCH, **ratios)


def make_corpus(folder: Path, quick: bool) -> Path:
    """Write speech, noise and rooms; every other clip of speech at another rate than ours."""
    write_corpus(folder, 0, SPEAKERS, QUICK_CLIPS if quick else CLIPS, CLIP_SECONDS)
    for path in sorted((folder / "speech").iterdir())[::2]:
        wave, rate = audio.read(path)
        audio.write(path, audio.resample(wave, rate, OTHER_RATE), OTHER_RATE)
    return folder


def open_edition(config: PrepConfig, long_seconds: float) -> tuple[OpenEdition, list[Cost]]:
    """Scan, plan and open a job; return it, and what that took."""
    with stage_clocks(SCAN) as seconds:
        edition = editions.begin_edition(
            config, [], weights_hash(config.denoiser), run_local, Share(0, 1)
        )
    assert edition is not None  # the output is empty
    start = time.process_time()
    job = open_job(config, edition)
    opening = time.process_time() - start

    def tasks(cutting: PrepConfig) -> list[ShardTask]:
        """Return the fullest shards of the same clips, cut as another config says."""
        new_job = job._replace(
            plan=plan.make_plan(edition.usable_clips("speech"), plan.plan_size(cutting))
        )
        all_tasks = [shard_task(cutting, new_job, shard) for shard in new_job.plan.shards()]
        most = max(len(task.pieces) for task in all_tasks)
        return [task for task in all_tasks if len(task.pieces) == most]

    audio_seconds = {
        role: sum(clip.seconds for clip in clips) for role, clips in edition.clips.items()
    }
    work = OpenEdition(
        job.settings,
        tasks(config),
        tasks(replace(config, save_segment_seconds=long_seconds)),
        tasks(replace(config, save_segment_seconds=SMALL_SECONDS, shard_pairs=SMALL_PAIRS)),
        seconds["scan"] / audio_seconds["speech"],
    )
    speed = sum(audio_seconds.values()) / seconds["scan"]
    return work, [("scan", speed, AUDIO_RATE), ("open a job", opening, "core-seconds")]


def compare(work: OpenEdition, data: Path, rounds: int) -> dict[str, float]:
    """Let both sides take turns, after one unmeasured turn each; print figures, return ratios."""
    official = Official() if INSTALLED else None
    enhance = None if official is None else lambda clip: official.denoise_clips([clip])[0]
    plans: list[Turn] = []
    ours: list[Turn] = []
    script: list[Turn] = []
    stages: list[dict[str, float]] = []
    for number in range(rounds + 1):
        task = work.tasks[number % len(work.tasks)]
        folder = f"{work.job.folder}-{number}"
        with stage_clocks(STAGES) as clocks:
            ours.append(time_turn(partial(run_ours, task, work.job._replace(folder=folder))))
        stages.append({**clocks, "rest": ours[-1].cpu - sum(clocks.values())})
        speech = sum(piece.samples for piece in task.pieces) / SAMPLE_RATE
        plans.append(ours[-1]._replace(pairs=len(task.pieces), speech=speech))
        if enhance is not None:
            files = Path(f"{folder}-script")
            run = partial(run_script, task, data, work.job.speech_root, enhance, files)
            script.append(time_turn(run))
    share = print_stages(plans[1:], stages[1:])
    print_rates("ours", ours[1:])
    share_refused = 1 - sum(turn.pairs for turn in ours) / sum(turn.pairs for turn in plans)
    print_figure(BENCH, "ours", "refused", 100 * share_refused, "% of the pairs")
    print_cost(work.scan_cost, ours[1:])
    if not script:
        print_line(bench=BENCH, note="deepfilternet is not installed: no script, no ratio to it")
        return {"denoiser_share_of_ours": share}
    print_rates("script", script[1:])
    return {
        "ours_to_script": compare_rates(ours[1:], script[1:]),
        "ours_to_script_before_refusals": compare_rates(plans[1:], script[1:]),
        "ours_to_script_by_wall_clock": compare_rates(
            [turn._replace(cpu=turn.wall) for turn in ours[1:]],
            [turn._replace(cpu=turn.wall) for turn in script[1:]],
        ),
        "denoiser_share_of_ours": share,
    }


def compare_rates(ours: Sequence[Turn], theirs: Sequence[Turn]) -> float:
    """Return the median over the rounds of our seconds of speech by CPU second over theirs."""
    both = zip(ours, theirs, strict=True)
    return median((a.speech / a.cpu) / (b.speech / b.cpu) for a, b in both)


def print_stages(plans: Sequence[Turn], stages: Sequence[Mapping[str, float]]) -> float:
    """Print what each stage does, of refused pairs too; return the denoiser's share of the time."""
    pairs, speech, cpu, _ = map(sum, zip(*plans, strict=True))
    stage_seconds = {stage: sum(turn[stage] for turn in stages) for stage in stages[0]}
    for stage, seconds in stage_seconds.items():
        print_figure(BENCH, stage, "share", 100 * seconds / cpu, "% of the CPU time")
        if seconds > 0:  # there may be no room among a few pairs
            print_figure(BENCH, stage, "pairs", pairs / seconds, PAIR_RATE)
            print_figure(BENCH, stage, "speed", speech / seconds, AUDIO_RATE)
    return stage_seconds[DENOISE] / cpu


def print_rates(side: str, turns: Sequence[Turn]) -> None:
    """Print a side's pairs and seconds of speech by CPU second."""
    print_figure(BENCH, side, "pairs", median(t.pairs / t.cpu for t in turns), PAIR_RATE)
    print_figure(BENCH, side, "speed", median(t.speech / t.cpu for t in turns), AUDIO_RATE)


def print_cost(scan_cost: float, ours: Sequence[Turn]) -> None:
    """Print what a big set takes if each core works like this one; memory is shared, so that is best."""
    cost = scan_cost + median(turn.cpu / turn.speech for turn in ours)
    print_figure(BENCH, f"{HOURS} h of speech", "scan and make", HOURS * cost, "core-hours")
    print_figure(BENCH, f"{HOURS} h of speech", f"{CORES} cores", HOURS * cost / CORES, "hours")
    print_figure(BENCH, "one core-hour", "speech", 1 / cost, "hours")


def measure_memory(work: OpenEdition, count: int) -> dict[str, float]:
    """Print the peak of workers on full shards, and their growth over ``count`` small ones each."""
    full = [(number, work.long[number % len(work.long)]) for number in range(WORKERS)]
    run = partial(make_and_weigh, work.job._replace(folder=f"{work.job.folder}-full"))
    peak = max(weight.peak for _, weight in run_local(run, full, WORKERS))
    print_figure(BENCH, "worker, full shards", "peak memory", peak / GIGABYTE, "GB")
    small = [(n, work.small[n % len(work.small)]) for n in range(WORKERS * count)]
    run = partial(make_and_weigh, work.job._replace(folder=f"{work.job.folder}-small"))
    sizes_by_worker: dict[int, list[int]] = defaultdict(list)
    for _, weight in run_local(run, small, WORKERS):
        sizes_by_worker[weight.worker].append(weight.own)
    # What a worker holds after a tenth of its shards is what it needs to work at all.
    growth = max(sizes[-1] / sizes[len(sizes) // 10] for sizes in sizes_by_worker.values())
    for number, sizes in enumerate(sizes_by_worker.values()):
        for at in (0, len(sizes) // 10, len(sizes) // 2, len(sizes) - 1):
            print_figure(
                BENCH, f"worker {number}", f"own memory after {at + 1}", sizes[at] / GIGABYTE, "GB"
            )
    return {"worker_peak_to_2.5_GB": peak / MOST_MEMORY, "memory_growth": growth}


class Weight(NamedTuple):
    """Which worker, its own memory now, and the most it held with what is shared, in bytes."""

    worker: int
    own: int
    peak: int


def make_and_weigh(job: ShardSettings, item: tuple[int, ShardTask]) -> Weight:
    """Make a shard in a folder of its own; what a worker does."""
    number, task = item
    make.make_shard(job._replace(folder=f"{job.folder}/{number}"), task)
    return weigh()


def weigh() -> Weight:
    """Return what this process weighs."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    # Of the shared banks a worker maps more with every noise it meets: that is no growth.
    return Weight(os.getpid(), psutil.Process().memory_full_info().uss, highest * unit)


def run_ours(task: ShardTask, job: ShardSettings) -> tuple[int, float]:
    """Make a shard; return how many pairs and seconds of speech are in it."""
    make.make_shard(job, task)
    path = storage.join(job.folder, shards.shard_path(task.split, task.number))
    url = shards.index_path(path)
    index = shards.from_json(ShardIndex, storage.read(url), url)
    return len(index.pairs), sum(pair.samples for pair in index.pairs) / SAMPLE_RATE


def time_turn(run: Callable[[], tuple[int, float]]) -> Turn:
    """Run one side's turn with both clocks."""
    wall, cpu = time.perf_counter(), time.process_time()
    pairs, speech = run()
    return Turn(pairs, speech, time.process_time() - cpu, time.perf_counter() - wall)


if __name__ == "__main__":
    main()
