"""Small shards of noise, written by the real writer: each pair's content tells its key."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from shard_tools.make.tar import FinishedPair, build_tar, write_shard
from timbre import shards, storage
from timbre.audio import SAMPLE_RATE, Int16Wave
from timbre.shards import (
    NOISY_SIDES,
    SIDES,
    AudioFormat,
    Manifest,
    PairMeta,
    ShardEntry,
    Source,
    holds_noisy,
)

SECONDS = 0.25


def content(key: str, samples: int) -> Int16Wave:
    """The clean side of a pair, known from its key alone."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    return rng.integers(-8000, 8000, samples, dtype=np.int16)


def half_at_offset(clean: Int16Wave, offset: int) -> Int16Wave:
    """degraded[n + offset] is half of clean[n]; the ends that nothing lines up with are 1."""
    degraded = np.ones_like(clean)
    low, high = max(0, -offset), min(len(clean), len(clean) - offset)
    degraded[low + offset : high + offset] = clean[low:high] // 2
    return degraded


def three_quarters(clean: Int16Wave) -> Int16Wave:
    """The noisy side of a pair that has one: three quarters of clean, where degraded is half."""
    return clean // 4 * 3


def make_pair(key: str, samples: int, offset: int, noisy: bool = False) -> FinishedPair:
    meta = PairMeta(
        schema=shards.SCHEMA,
        key=key,
        samples=samples,
        alignment_offset=offset,
        alignment_confidence=1.0,
        bandwidth_hz=20000.0,
        snr_db=10.0,
        snr_reached_db=10.0,
        gain_db=0.0,
        speaker=f"someone in {key.partition('-')[0]}",
        clean=Source(f"{key}.wav", 0, samples),
        noises=(Source("noise.wav", 0, samples),),
        rir=None,
        rt60_seconds=None,
        denoiser="none",
        denoiser_sha256="",
        seed=(0, 0, 0),
    )
    clean = content(key, samples)
    return FinishedPair(
        meta, clean, half_at_offset(clean, offset), three_quarters(clean) if noisy else None
    )


def make_shards(
    folder: Path,
    train: Sequence[int],
    val: Sequence[int] = (2,),
    audio_format: AudioFormat = "wav",
    seconds: float = SECONDS,
    noisy: bool = False,
) -> str:
    """Write shards of so many pairs each, with offsets around zero; return the manifest's URL."""
    splits: dict[str, tuple[ShardEntry, ...]] = {}
    for split, counts in [("train", train), ("val", val)]:
        entries = []
        for number, count in enumerate(counts):
            path = shards.shard_path(split, number)
            url = storage.join(folder, path)
            pairs = [
                make_pair(
                    f"{split}-{number:06d}-{i:04d}",
                    round(seconds * SAMPLE_RATE) + 7 * i,
                    (-90, 0, 35, 300)[i % 4],
                    noisy,
                )
                for i in range(count)
            ]
            write_shard(url, pairs, {}, "plan", audio_format)
            data, index = storage.read(url), storage.read(shards.index_path(url))
            length = sum(pair.meta.samples for pair in pairs) / SAMPLE_RATE
            entries.append(
                ShardEntry(
                    path, count, len(data), length, storage.sha256(data), storage.sha256(index)
                )
            )
        splits[split] = tuple(entries)
    manifest = Manifest(
        schema=shards.SCHEMA,
        version=1,
        sample_rate=SAMPLE_RATE,
        audio_format=audio_format,
        save_segment_seconds=seconds,
        splits=splits,
        rejected={},
        clips={},
        hashes={},
        config={},
    )
    url = storage.join(folder, shards.MANIFEST_NAME)
    storage.publish(url, shards.to_json(manifest))
    return url


def stored_pairs(manifest_url: str, path: str) -> list[FinishedPair]:
    """Return the pairs of a shard as they were before the writing."""
    url = storage.join(shards.folder_of(manifest_url), path)
    pairs = []
    for entry in shards.index_tar(storage.read(url), url).pairs:
        members = dict(
            zip(entry.members, shards.read_members(url, entry, [*entry.members]), strict=True)
        )
        meta = shards.from_json(PairMeta, bytes(members[shards.META_MEMBER]), url)
        sides = NOISY_SIDES if holds_noisy(entry) else SIDES
        waves = {
            side: shards.decode_segment(
                members[shards.audio_member(members, side)], 0, entry.samples, url
            )
            for side in sides
        }
        pairs.append(FinishedPair(meta, **waves))
    return pairs


def rewrite_shard(
    manifest_url: str,
    path: str,
    change: Callable[[FinishedPair], FinishedPair] = lambda pair: pair,
    **index_fields: Any,
) -> None:
    """Write a shard with its pairs changed; its index (but for ``index_fields``) and manifest agree."""
    manifest = shards.load_manifest(manifest_url)
    pairs = [change(pair) for pair in stored_pairs(manifest_url, path)]
    publish_tar(manifest_url, path, build_tar(pairs, manifest.audio_format), **index_fields)


def publish_tar(manifest_url: str, path: str, data: bytes, **index_fields: Any) -> None:
    """Put a tar in a shard's place, with an index and a manifest that agree with it."""
    url = storage.join(shards.folder_of(manifest_url), path)
    index = replace(shards.index_tar(data, path), **{"plan": "plan", **index_fields})
    index_data = shards.to_json(index)
    storage.publish(url, data)
    storage.publish(shards.index_path(url), index_data)
    length = sum(pair.samples for pair in index.pairs) / SAMPLE_RATE
    entry = ShardEntry(
        path,
        len(index.pairs),
        len(data),
        length,
        storage.sha256(data),
        storage.sha256(index_data),
    )
    manifest = shards.load_manifest(manifest_url)
    splits = {
        split: tuple(entry if shard.path == path else shard for shard in entries)
        for split, entries in manifest.splits.items()
    }
    change_manifest(manifest_url, splits=splits)


def change_manifest(manifest_url: str, **fields: Any) -> None:
    """Write the manifest with some of its fields changed."""
    manifest = replace(shards.load_manifest(manifest_url), **fields)
    storage.publish(manifest_url, shards.to_json(manifest))


def spoil_pair(manifest_url: str, number: int) -> None:
    """Flip a bit in the clean side of one pair of the first validation shard."""
    folder = shards.folder_of(manifest_url)
    shard = shards.load_manifest(manifest_url).shards("val")[0]
    members = shards.load_index(folder, shard).pairs[number].members
    url = storage.join(folder, shard.path)
    data = bytearray(storage.read(url))
    data[members[shards.audio_member(members, "clean")].offset + 1000] ^= 1
    storage.publish(url, bytes(data))
