"""Editions begun, made and published."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import overload

from tqdm import tqdm

from shard_tools.config import PrepConfig
from shard_tools.degrade.shares import hashes_of, joint_hash
from shard_tools.executors.local import run_local
from shard_tools.executors.ray import run_ray
from shard_tools.executors.share import Share
from shard_tools.make.job import Job, open_job, shard_task
from shard_tools.make.left_out import write_report
from shard_tools.make.manifest import (
    missing_shards,
    planned_shards,
    publish_latest,
    publish_version,
    read_made_shards,
    version_url,
)
from shard_tools.make.shard import ShardTask, make_shard
from shard_tools.plan.editions import Edition, begin_edition, load_editions
from shard_tools.plan.plan import Shard
from shard_tools.scan.scan import RunTasks
from timbre import shards, storage
from timbre.command import print_result
from timbre.denoiser_names import NONE
from timbre.errors import WorkError
from timbre.shards import Manifest

EXECUTORS: dict[str, RunTasks] = {"local": run_local, "ray": run_ray, "array": run_local}
ALL = Share(0, 1)


def prep(config: PrepConfig, executor: str = "local", share: Share = ALL) -> Manifest | None:
    """Make every shard that is not there yet, then the manifest; return it.

    What an earlier run began is finished first. Where nothing is left to finish, the sources are
    scanned, and clips that no edition has become the next. None is returned where shards of other
    shares are still missing; whichever share finds all of them writes the manifest.

    Raises:
        ConfigError: the sources cannot be used, or the output holds shards of another plan.
        AudioError: too many clips cannot be read.
        ShardError: a clip changed since it was scanned.
        WorkError: a worker died, or no pair passed.
        OSError: a clip cannot be fetched, or the output cannot be written.
    """
    run = EXECUTORS[executor]
    denoiser_sha256 = joint_hash(hashes_of(config.each_denoiser))
    editions = load_editions(config, denoiser_sha256)
    are_finished = [_is_complete(config, edition) for edition in editions]
    if all(are_finished):
        new_edition = begin_edition(config, editions, denoiser_sha256, run, share)
        if new_edition is None:
            print_result(f"{config.output}: complete, and the sources hold no new clips")
            return shards.load_manifest(config.output)
        editions.append(new_edition)
    elif any(are_finished):
        print_result(
            "finishing what an earlier run began; run again to add clips that are new since"
        )
    job = None
    for edition in editions:
        job = make_shards(config, edition, run, share)
    if open_shards := sum(len(missing_shards(config.output, edition)) for edition in editions):
        if share == ALL:
            raise WorkError(
                f"{config.output}: {open_shards} shards disappeared while others were made"
            )
        print_result(
            f"share {share.index} of {share.count} is done; {open_shards} shards of others are missing"
        )
        return None
    by_edition = [read_made_shards(config.output, edition) for edition in editions]
    manifest = publish_latest(config, editions, [shard for one in by_edition for shard in one])
    page = write_report(config, editions[-1], job or open_job(config, editions[-1]), by_edition[-1])
    print_result(f"what was left out, and examples to listen to: {page}")
    publish_version(config.output, manifest)
    storage.remove_stale_temporaries(config.output)
    return manifest


def make_shards(config: PrepConfig, edition: Edition, run: RunTasks, share: Share) -> Job | None:
    """Make the shards of an edition that are missing and are this share's; return the job, if any."""
    absent = set(missing_shards(config.output, edition))
    numbers = planned_shards(edition)
    mine = [shard for shard in numbers[share.index :: share.count] if shard in absent]
    if not mine:
        return None
    job = open_job(config, edition)
    tasks = ShardTasks(config, job, mine)
    with tqdm(total=len(mine), desc="shards", unit="shard", disable=None) as progress:
        gpu = config.denoiser.name != NONE and config.denoiser.device != "cpu"
        for _ in run(partial(make_shard, job.settings), tasks, config.workers, gpu=gpu):
            progress.update(1)
    return job


class ShardTasks(Sequence[ShardTask]):
    """The tasks of some shards, each drawn when it is its turn: millions of pairs need no memory."""

    def __init__(self, config: PrepConfig, job: Job, numbers: Sequence[Shard]) -> None:
        self._config, self._job, self._numbers = config, job, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[ShardTask]:
        # Sequence's own would take an IndexError of a task for the end of all.
        return (self[at] for at in range(len(self)))

    @overload
    def __getitem__(self, at: int) -> ShardTask: ...
    @overload
    def __getitem__(self, at: slice) -> "ShardTasks": ...
    def __getitem__(self, at: int | slice) -> "ShardTask | ShardTasks":
        if isinstance(at, slice):
            return ShardTasks(self._config, self._job, self._numbers[at])
        return shard_task(self._config, self._job, self._numbers[at])


def _is_complete(config: PrepConfig, edition: Edition) -> bool:
    version = version_url(config.output, edition.record.edition)
    return storage.exists(version) and not missing_shards(config.output, edition)
