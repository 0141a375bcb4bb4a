"""Plan and write shards from speech, noise and rooms; run it again to continue, or to add new clips."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import overload

from tqdm import tqdm

from shard_tools.config import PrepConfig
from shard_tools.degrade.degrade import weights_hash
from shard_tools.executors.local import run_local
from shard_tools.executors.ray import run_ray
from shard_tools.executors.share import Share, find_share
from shard_tools.make.job import Job, open_job, shard_task
from shard_tools.make.left_out import write_report
from shard_tools.make.manifest import (
    missing_shards,
    planned_shards,
    publish_latest,
    publish_version,
    read_made,
    version_url,
)
from shard_tools.make.shard import ShardTask, make_shard
from shard_tools.plan.editions import Edition, begin_edition, load_editions
from shard_tools.plan.plan import Shard
from shard_tools.scan.scan import Run
from timbre import config as configs
from timbre import shards, storage
from timbre.command import command, config_parser, say
from timbre.errors import ConfigError, WorkError
from timbre.shards import Manifest

EXECUTORS: dict[str, Run] = {"local": run_local, "ray": run_ray, "array": run_local}
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
    denoiser_sha256 = weights_hash(config.denoiser)
    editions = load_editions(config, denoiser_sha256)
    finished = [_is_finished(config, edition) for edition in editions]
    if all(finished):
        begun = begin_edition(config, editions, denoiser_sha256, run, share)
        if begun is None:
            say(f"{config.output}: complete, and the sources hold no new clips")
            return shards.load_manifest(config.output)
        editions.append(begun)
    elif any(finished):
        say("finishing what an earlier run began; run again to add clips that are new since")
    job = None
    for edition in editions:
        job = make_shards(config, edition, run, share)
    if left := sum(len(missing_shards(config.output, edition)) for edition in editions):
        if share == ALL:
            raise WorkError(f"{config.output}: {left} shards disappeared while others were made")
        say(f"share {share.index} of {share.count} is done; {left} shards of others are missing")
        return None
    made = [read_made(config.output, edition) for edition in editions]
    manifest = publish_latest(config, editions, [shard for one in made for shard in one])
    page = write_report(config, editions[-1], job or open_job(config, editions[-1]), made[-1])
    say(f"what was left out, and examples to listen to: {page}")
    publish_version(config.output, manifest)
    storage.remove_stale_temporaries(config.output)
    return manifest


def make_shards(config: PrepConfig, edition: Edition, run: Run, share: Share) -> Job | None:
    """Make the shards of an edition that are missing and are this share's; return the job, if any."""
    missing = set(missing_shards(config.output, edition))
    planned = planned_shards(edition)
    mine = [shard for shard in planned[share.index :: share.count] if shard in missing]
    if not mine:
        return None
    job = open_job(config, edition)
    tasks = ShardTasks(config, job, mine)
    with tqdm(total=len(mine), desc="shards", unit="shard", disable=None) as progress:
        gpu = config.denoiser.name != "none" and config.denoiser.device != "cpu"
        for _ in run(partial(make_shard, job.shard_job), tasks, config.workers, gpu=gpu):
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


def _is_finished(config: PrepConfig, edition: Edition) -> bool:
    version = version_url(config.output, edition.record.edition)
    return storage.exists(version) and not missing_shards(config.output, edition)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Make shards by ``CONFIG [section.key=value ...] [--executor E]``."""
    parser = config_parser("prep", __doc__, "configs/prep.yaml")
    parser.add_argument(
        "--executor",
        choices=EXECUTORS,
        default="local",
        help="where shards are made: processes of this machine, a Ray cluster, or one share of "
        "them here and the others by other tasks of a job array (%(default)s)",
    )
    parser.add_argument(
        "--share",
        metavar="I/N",
        help="with --executor array: share I of N, from 0; otherwise Slurm's, Kubernetes' or "
        "TIMBRE_SHARE and TIMBRE_SHARES tell",
    )
    given = parser.parse_intermixed_args(argv)
    if given.share and given.executor != "array":
        raise ConfigError(f"--share {given.share}: only with --executor array")
    config = configs.load(PrepConfig, given.config, given.overrides)
    share = find_share(given.share) if given.executor == "array" else ALL
    manifest = prep(config, given.executor, share)
    if manifest is None:
        return
    for split, entries in manifest.splits.items():
        pairs, hours = sum(e.pairs for e in entries), sum(e.seconds for e in entries) / 3600
        say(f"{split}: {pairs} pairs, {hours:.2f} h, {len(entries)} shards")
    say(f"refused: {manifest.rejected or 'none'}")
    say(f"written: {storage.join(config.output, shards.MANIFEST_NAME)}")


if __name__ == "__main__":
    sys.exit(main())
