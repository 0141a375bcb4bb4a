"""The manifest of an edition: every shard of it and of those before, with hashes and counts."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from shard_tools.config import PrepConfig, to_record
from shard_tools.plan.editions import Edition, count_clips
from shard_tools.plan.plan import SPLITS, Shard
from timbre import shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import ShardError, WorkError
from timbre.shards import Manifest, Rejection, ShardEntry, ShardIndex

READ_THREADS = 16


class MadeShard(NamedTuple):
    """A finished shard: its entry in the manifest, if any pair of it passed, and those that did not."""

    shard: Shard
    entry: ShardEntry | None
    rejected: dict[str, tuple[Rejection, ...]]


def planned_shards(edition: Edition) -> list[Shard]:
    """Return (split, number) of every shard of an edition."""
    record = edition.record
    return [
        (split, record.first_shard[split] + i)
        for split in SPLITS
        for i in range(record.shards[split])
    ]


def missing_shards(output: str, edition: Edition) -> list[Shard]:
    """Return the shards of an edition that are not finished, by one listing of each split.

    A finished shard has its index and its tar; where the edition's manifest is there already, the
    tar is as long as that says.
    """
    sizes = {
        f"{split}/{file.path}": file.bytes
        for split in SPLITS
        for file in storage.find_files(storage.join(output, split))
    }
    sizes_in_index = _published_sizes(output, edition)
    absent = []
    for shard in planned_shards(edition):
        path = shards.shard_path(*shard)
        size = sizes.get(path)
        whole = size is not None and size == sizes_in_index.get(path, size)
        if not whole or shards.index_path(path) not in sizes:
            absent.append(shard)
    return absent


def _published_sizes(output: str, edition: Edition) -> dict[str, int]:
    """Return the bytes of every tar that an edition's own manifest lists; none if it is not there."""
    try:
        manifest = shards.load_manifest(version_url(output, edition.record.edition))
    except (FileNotFoundError, ShardError):  # it is written again when the shards are there
        return {}
    return {shard.path: shard.bytes for entries in manifest.splits.values() for shard in entries}


def version_url(output: str, version: int) -> str:
    """Return where a version of the manifest is kept."""
    return storage.join(output, f"manifest-{version:06d}.json")


def read_made_shards(output: str, edition: Edition) -> list[MadeShard]:
    """Return what an edition's shards hold, from their indexes.

    Raises:
        ShardError: a shard belongs to another plan.
    """
    numbers = planned_shards(edition)
    urls = [storage.join(output, shards.index_path(shards.shard_path(*n))) for n in numbers]
    shards_there = []
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for shard, url, data in zip(numbers, urls, pool.map(storage.read, urls), strict=True):
            index = shards.from_json(ShardIndex, data, url)
            if index.plan != edition.sha256:
                raise ShardError(
                    f"{url}: belongs to plan {index.plan[:12]}, expected {edition.sha256[:12]}; "
                    "delete it and run again"
                )
            entry = _entry(shard, index, storage.sha256(data)) if index.pairs else None
            shards_there.append(MadeShard(shard, entry, index.rejected))
    return shards_there


def publish_latest(
    config: PrepConfig, editions: Sequence[Edition], made_shards: Sequence[MadeShard]
) -> Manifest:
    """Publish ``manifest.json`` of these editions and their shards; return it.

    Raises:
        WorkError: a split has no pair.
    """
    splits: dict[str, list[ShardEntry]] = {split: [] for split in SPLITS}
    refusals: Counter[str] = Counter()
    for shard in made_shards:
        refusals.update({reason: len(pairs) for reason, pairs in shard.rejected.items()})
        if shard.entry:
            splits[shard.shard[0]].append(shard.entry)
    for split, entries in splits.items():
        if not entries:
            raise WorkError(f"{config.output}: no {split} pair passed: {dict(refusals)}")
    manifest = Manifest(
        schema=shards.SCHEMA,
        version=len(editions),
        sample_rate=SAMPLE_RATE,
        audio_format=config.audio_format,
        save_segment_seconds=config.save_segment_seconds,
        splits={split: tuple(entries) for split, entries in splits.items()},
        rejected=dict(sorted(refusals.items())),
        clips=count_clips(editions),
        hashes={
            "plan": editions[-1].sha256,
            "denoiser": editions[-1].record.denoiser_sha256,
        },
        config=to_record(config),
    )
    storage.publish(storage.join(config.output, shards.MANIFEST_NAME), shards.to_json(manifest))
    return manifest


def publish_version(output: str, manifest: Manifest) -> None:
    """Keep the manifest under its version: that it is there says that its edition is finished."""
    storage.publish(version_url(output, manifest.version), shards.to_json(manifest))


def _entry(shard: Shard, index: ShardIndex, index_sha256: str) -> ShardEntry:
    seconds = sum(pair.samples for pair in index.pairs) / SAMPLE_RATE
    return ShardEntry(
        shards.shard_path(*shard),
        len(index.pairs),
        index.tar_bytes,
        round(seconds, 3),
        index.tar_sha256,
        index_sha256,
    )
