"""Plan and write shards from speech, noise and room responses; run it again to continue."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from functools import partial
from typing import Annotated, NamedTuple

from pydantic import Field
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from shard_tools.bank import load_bank
from shard_tools.degrade import DenoiserConfig, weights_hash
from shard_tools.executors import Executor, run_local
from shard_tools.make import UNREADABLE, ShardJob, ShardTask, make_shard
from shard_tools.plan import (
    MixConfig,
    Plan,
    PlanSize,
    Shard,
    draw_recipes,
    make_plan,
    shard_seed,
)
from shard_tools.quality import QualityConfig
from shard_tools.reverb import ReverbConfig
from shard_tools.sources import Clip, refuse_too_many_bad, scan
from timbre import config as configs
from timbre import shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.command import command, config_parser, say
from timbre.config import STRICT, Count, Name, Positive, Seed, Share
from timbre.errors import ConfigError, WorkError
from timbre.shards import AudioFormat, Manifest, ShardEntry, ShardIndex

PLAN_NAME = "plan.json"


@dataclass(config=STRICT)
class PrepConfig:
    """Everything about making shards."""

    # A folder, or a manifest.jsonl: one object a line with file, and speaker where it is known.
    speech: Name
    noise: Name
    output: Name
    rir: Name | None = None
    # Pairs from each stretch of speech, each with its own noise, ratio, level and room.
    variants: Count = 1
    seed: Seed = 0
    workers: Count = 2
    shard_pairs: Count = 64
    # Every stored pair is at least this long, and shorter than twice this.
    save_segment_seconds: Annotated[float, Field(ge=0.5, le=60)] = 4.0
    # The share of speakers (where unknown, recordings) whose pairs are for validation.
    val_ratio: Annotated[float, Field(gt=0, le=0.5)] = 0.08
    audio_format: AudioFormat = "flac"
    # The offset between clean and degraded is searched this far on either side.
    max_offset_seconds: Positive = 0.02
    # More clips than this share that cannot be read end the job.
    max_bad_fraction: Share = 0.02
    mix: MixConfig = field(default_factory=MixConfig)
    reverb: ReverbConfig = field(default_factory=ReverbConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)

    def __post_init__(self) -> None:
        stored = f"save_segment_seconds {self.save_segment_seconds}"
        if self.max_offset_seconds >= self.save_segment_seconds / 2:
            raise ValueError(
                f"max_offset_seconds {self.max_offset_seconds}: expected less than half of {stored}"
            )
        for name in ("min_seconds", "min_active_seconds"):
            if getattr(self.quality, name) > self.save_segment_seconds:
                raise ValueError(
                    f"quality.{name} {getattr(self.quality, name)}: no pair could pass, {stored}"
                )


# What a plan does not depend on: moving the data or the job changes no shard.
NOT_IN_PLAN = ("speech", "noise", "rir", "output", "workers", "max_bad_fraction")


@dataclass(config=STRICT)
class PlanMark:
    """``plan.json``: whose shards an output folder holds."""

    plan: str


class Job(NamedTuple):
    """A plan, what the workers need to carry it out, and the clips that cannot take part."""

    plan: Plan
    shard_job: ShardJob
    unusable: tuple[str, ...]
    hashes: dict[str, str]


def prep(config: PrepConfig, executor: Executor = "local") -> Manifest:
    """Make every shard that is not there yet, then the manifest; return it.

    Raises:
        ConfigError: the sources cannot be used, or the output holds shards of another plan.
        AudioError: too many clips cannot be read.
        WorkError: a worker died, or no pair passed.
        OSError: the output cannot be written.
    """
    job = open_job(config)
    claim_output(config.output, job.hashes["plan"])
    indexes = {shard: index for shard in job.plan.shards() if (index := _done(config, shard))}
    tasks = [
        shard_task(config, job.plan, shard) for shard in job.plan.shards() if shard not in indexes
    ]
    total = sum(len(pieces) for pieces in job.plan.pieces.values())
    unreadable = [what for index in indexes.values() for what in index.rejected.get(UNREADABLE, ())]
    refuse_too_many_bad(unreadable, total, config.max_bad_fraction)
    progress = tqdm(total=total, desc="pairs", unit="pair", disable=None)
    progress.update(total - sum(len(task.pieces) for task in tasks))
    with progress:
        made = EXECUTORS[executor](partial(make_shard, job.shard_job), tasks, config.workers)
        for task, rejected in made:
            progress.update(len(task.pieces))
            unreadable += rejected.get(UNREADABLE, ())
            refuse_too_many_bad(unreadable, total, config.max_bad_fraction)
    return write_manifest(config, job)


def open_job(config: PrepConfig) -> Job:
    """Return the plan for a config, with noises and responses decoded.

    Raises:
        ConfigError: a source is missing, empty, or too small to split.
        AudioError: too many clips cannot be read.
    """
    speech, speech_bad = _usable(config, config.speech, "speech")
    noise, noise_bad = _usable(config, config.noise, "noise")
    rir, rir_bad = _usable(config, config.rir, "rir") if config.rir else ((), ())
    noises, noise_broken = load_bank(noise, "noise")
    rirs, rir_broken = load_bank(rir, "rir")
    refuse_too_many_bad(noise_broken, len(noise), config.max_bad_fraction)
    refuse_too_many_bad(rir_broken, len(rir), config.max_bad_fraction)
    noise = tuple(clip for clip in noise if clip.path in noises.paths)
    rir = tuple(clip for clip in rir if clip.path in rirs.paths)
    if not noise:
        raise ConfigError(f"noise: {config.noise}: no recording in it can be used")
    size = PlanSize(
        round(config.save_segment_seconds * SAMPLE_RATE),
        config.variants,
        config.shard_pairs,
        config.val_ratio,
        config.seed,
    )
    plan = make_plan(speech, noise, rir, size)
    shard_job = ShardJob(
        folder=config.output,
        audio_format=config.audio_format,
        denoiser=config.denoiser,
        denoiser_sha256=weights_hash(config.denoiser),
        quality=config.quality,
        lead_in=round(config.denoiser.lead_in_seconds * SAMPLE_RATE),
        max_offset=round(config.max_offset_seconds * SAMPLE_RATE),
        target_early=round(config.reverb.target_early_seconds * SAMPLE_RATE),
        noises=noises,
        rirs=rirs,
    )
    plan_hash = _plan_hash(config, plan, (*noise, *rir), shard_job.denoiser_sha256)
    hashes = {"plan": plan_hash, "denoiser": shard_job.denoiser_sha256}
    unusable = (*speech_bad, *noise_bad, *rir_bad, *noise_broken, *rir_broken)
    for message in unusable:
        say(f"skipped: {message}")
    return Job(plan, shard_job, unusable, hashes)


def claim_output(output: str, plan_hash: str) -> None:
    """Mark the output folder as this plan's, so that shards of two plans never mix.

    Raises:
        ConfigError: it holds shards of another plan.
        OSError: it cannot be written.
    """
    url = storage.join(output, PLAN_NAME)
    if storage.exists(url):
        found = shards.from_json(PlanMark, storage.read(url), url).plan
        if found != plan_hash:
            raise ConfigError(
                f"output: {output} holds shards of another plan ({found[:12]}, this one is "
                f"{plan_hash[:12]}): the config or the sources have changed; choose another output"
            )
        return
    storage.publish(url, shards.to_json(PlanMark(plan_hash)))


def write_manifest(config: PrepConfig, job: Job) -> Manifest:
    """Publish the manifest of the finished shards and return it.

    Raises:
        WorkError: a split has no pair.
    """
    splits: dict[str, tuple[ShardEntry, ...]] = {}
    rejected: Counter[str] = Counter()
    for split in job.plan.pieces:
        entries = []
        for shard in job.plan.shards():
            if shard[0] == split:
                data = storage.read(_index_url(config, shard))
                index = shards.from_json(ShardIndex, data, _index_url(config, shard))
                rejected.update({reason: len(what) for reason, what in index.rejected.items()})
                entries.append(_shard_entry(shard, index, shards.sha256(data)))
        splits[split] = tuple(entry for entry in entries if entry.pairs)
        if not splits[split]:
            raise WorkError(f"{config.output}: no {split} pair passed: {dict(rejected)}")
    manifest = Manifest(
        schema=shards.SCHEMA,
        sample_rate=SAMPLE_RATE,
        audio_format=config.audio_format,
        save_segment_seconds=config.save_segment_seconds,
        splits=splits,
        rejected=dict(sorted(rejected.items())),
        unusable=job.unusable,
        hashes=job.hashes,
        config=configs.to_tree(config),
    )
    url = storage.join(config.output, shards.MANIFEST_NAME)
    storage.publish(url, shards.to_json(manifest))
    return manifest


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Make shards by ``CONFIG [section.key=value ...] [--executor E]``."""
    parser = config_parser("prep", __doc__, "configs/prep.yaml")
    parser.add_argument(
        "--executor", choices=EXECUTORS, default="local", help="where shards are made (%(default)s)"
    )
    given = parser.parse_intermixed_args(argv)
    config = configs.load(PrepConfig, given.config, given.overrides)
    manifest = prep(config, given.executor)
    for split, entries in manifest.splits.items():
        pairs, hours = sum(e.pairs for e in entries), sum(e.seconds for e in entries) / 3600
        say(f"{split}: {pairs} pairs, {hours:.2f} h, {len(entries)} shards")
    say(f"refused: {manifest.rejected or 'none'}")
    say(f"written: {storage.join(config.output, shards.MANIFEST_NAME)}")


EXECUTORS = {"local": run_local}


def _usable(config: PrepConfig, source: str, role: str) -> tuple[tuple[Clip, ...], tuple[str, ...]]:
    found = scan(source, role)
    refuse_too_many_bad(found.bad, len(found.clips) + len(found.bad), config.max_bad_fraction)
    return found.clips, found.bad


def shard_task(config: PrepConfig, plan: Plan, shard: Shard) -> ShardTask:
    """Return what a worker needs to know to make one shard of the plan."""
    share = config.reverb.share if config.rir else 0.0
    return ShardTask(
        *shard,
        plan.shard(*shard),
        tuple(draw_recipes(plan, shard, config.mix, share)),
        shard_seed(plan, shard),
    )


def _done(config: PrepConfig, shard: Shard) -> ShardIndex | None:
    """Return the index of a finished shard: it is published after the tar."""
    url = _index_url(config, shard)
    if not storage.exists(url):
        return None
    return shards.from_json(ShardIndex, storage.read(url), url)


def _index_url(config: PrepConfig, shard: Shard) -> str:
    return storage.join(config.output, shards.index_path(shards.shard_path(*shard)))


def _shard_entry(shard: Shard, index: ShardIndex, index_sha256: str) -> ShardEntry:
    seconds = sum(pair.samples for pair in index.pairs) / SAMPLE_RATE
    return ShardEntry(
        shards.shard_path(*shard),
        len(index.pairs),
        index.tar_bytes,
        round(seconds, 3),
        index.tar_sha256,
        index_sha256,
    )


def _plan_hash(
    config: PrepConfig, plan: Plan, pools: tuple[Clip, ...], denoiser_sha256: str
) -> str:
    tree = configs.to_tree(config)
    tree["denoiser"]["weights"] = denoiser_sha256  # what they are, not where they lie
    kept = {name: value for name, value in tree.items() if name not in NOT_IN_PLAN}
    speech = [(p.clip.path, p.start, p.samples, p.variant) for s in plan.pieces.values() for p in s]
    others = [(clip.path, clip.samples) for clip in pools]
    return shards.sha256(json.dumps([kept, speech, others], sort_keys=True).encode())


if __name__ == "__main__":
    sys.exit(main())
