"""Pairs to load: two clips of 3 s that FLAC compresses as it does speech, in shards of ours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.stream.case import PAIR_SAMPLES
from shard_tools.make.tar import FinishedPair, write_shard
from timbre import audio, shards, storage
from timbre.audio import SAMPLE_RATE, Int16Wave, Wave
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice
from timbre.shards import AudioFormat, Manifest, PairMeta, ShardEntry, Source

# They come round again, but in other pages of memory, so no cache knows them.
DIFFERENT = 48
QUICK_DIFFERENT = 4
SHARDS = 8
# A quiet room: without it FLAC would have digital silence in the pauses.
FLOOR_DB = -68.0


def draw_clips(data: Path | None, quick: bool) -> list[Int16Wave]:
    """Return clean clips ``(PAIR_SAMPLES,)``: voices made up, or what is in a folder, end to end."""
    count = QUICK_DIFFERENT if quick else DIFFERENT
    if data is None:
        rng = np.random.default_rng(0)
        seconds = PAIR_SAMPLES / SAMPLE_RATE
        floor = noise("pink", seconds, rng)
        floor *= audio.gain(FLOOR_DB - audio.level_db(floor))
        return [audio.to_int16(voice(seconds, rng) + np.roll(floor, n)) for n in range(count)]
    waves: list[Wave] = []
    for url in audio.find_below(str(data)).values():
        if sum(map(len, waves)) >= count * PAIR_SAMPLES:
            break
        waves.append(audio.read_mono(url))
    whole = audio.to_int16(np.concatenate(waves)) if waves else np.zeros(0, np.int16)
    if len(whole) < PAIR_SAMPLES:
        raise SystemExit(f"{data}: expected {PAIR_SAMPLES / SAMPLE_RATE:g} s of recordings")
    return list(whole[: len(whole) // PAIR_SAMPLES * PAIR_SAMPLES].reshape(-1, PAIR_SAMPLES))


def damage(clean: Int16Wave) -> Int16Wave:
    """Return the clip with its highs dulled, so that the sides differ as they do in use."""
    dull: Int16Wave = ((clean.astype(np.int32) + np.roll(clean, 1)) // 2).astype(np.int16)
    return dull


def write_ours(
    folder: str, clips: Sequence[Int16Wave], pairs: int, audio_format: AudioFormat
) -> int:
    """Write ``SHARDS`` shards with so many pairs in all, and the manifest; return how many bytes."""
    each = pairs // SHARDS
    entries = []
    for number in range(SHARDS):
        keys = [f"{number:06d}-{i:04d}" for i in range(each)]
        cleans = [clips[(number * each + i) % len(clips)] for i in range(each)]
        path = shards.shard_path("train", number)
        entries.append(write_one(folder, path, list(zip(keys, cleans, strict=True)), audio_format))
    write_manifest(folder, entries, audio_format, PAIR_SAMPLES / SAMPLE_RATE)
    return sum(entry.bytes for entry in entries)


def write_one(
    folder: str, path: str, clips_by_key: Sequence[tuple[str, Int16Wave]], audio_format: AudioFormat
) -> ShardEntry:
    """Write a shard of pairs made of these clean clips; return its entry in the manifest."""
    pairs = [
        FinishedPair(meta_of(key, len(clean)), clean, damage(clean)) for key, clean in clips_by_key
    ]
    url = storage.join(folder, path)
    write_shard(url, pairs, {}, "", audio_format)
    data, index = storage.read(url), storage.read(shards.index_path(url))
    seconds = sum(len(clean) for _, clean in clips_by_key) / SAMPLE_RATE
    return ShardEntry(
        path, len(clips_by_key), len(data), seconds, storage.sha256(data), storage.sha256(index)
    )


def meta_of(key: str, samples: int) -> PairMeta:
    """Return a pair's meta, of about the length that it has in use."""
    return PairMeta(
        schema=shards.SCHEMA,
        key=key,
        samples=samples,
        alignment_offset=0,
        alignment_confidence=1.0,
        bandwidth_hz=20_000.0,
        snr_db=10.0,
        snr_reached_db=10.0,
        gain_db=0.0,
        speaker="somebody",
        clean=Source("speech/somebody/recording.flac", 0, samples, "0" * 64),
        noises=(Source("noise/recording.flac", 0, samples, "0" * 64),),
        rir=None,
        rt60_seconds=None,
        denoiser="none",
        denoiser_sha256="",
        seed=(0, 0, 0),
    )


def write_manifest(
    folder: str, entries: Sequence[ShardEntry], audio_format: AudioFormat, seconds: float
) -> str:
    """Write the manifest of a training split; return its URL."""
    manifest = Manifest(
        schema=shards.SCHEMA,
        version=1,
        sample_rate=SAMPLE_RATE,
        audio_format=audio_format,
        save_segment_seconds=seconds,
        splits={"train": tuple(entries)},
        rejected={},
        clips={},
        hashes={},
        config={},
    )
    url = storage.join(folder, shards.MANIFEST_NAME)
    storage.publish(url, shards.to_json(manifest))
    return url
