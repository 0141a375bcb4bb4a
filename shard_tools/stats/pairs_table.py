"""A Parquet table of all pairs of a manifest, for pandas, DuckDB and viewers of data sets."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow
from pyarrow import parquet

from shard_tools.stats.quantities import Metas
from timbre import shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.shards import Manifest, PairMeta

TABLE_NAME = "pairs.parquet"
# Nothing may be known of these in a whole manifest; a column needs a type all the same.
TYPES = {
    "rir": pyarrow.string(),
    "rt60_seconds": pyarrow.float64(),
    "noises": pyarrow.list_(pyarrow.string()),
    "voices": pyarrow.list_(pyarrow.string()),
}


def write_table(manifest_url: str, manifest: Manifest, metas: Metas) -> str:
    """Write ``pairs.parquet`` beside the manifest, a row a pair in the shards' order; return its URL.

    Args:
        manifest_url: the manifest's, or that of its folder.
        manifest: what lies there.
        metas: those of all pairs.

    Raises:
        OSError: it cannot be written.
    """
    rows = [
        row
        for split, of_split in metas.items()
        for row in _rows(split, _shard_paths(manifest, split), of_split)
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {
        name: pyarrow.array([row.get(name) for row in rows], TYPES.get(name)) for name in names
    }
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    url = storage.join(shards.folder_of(manifest_url), TABLE_NAME)
    storage.publish(url, buffer.getvalue())
    return url


def _shard_paths(manifest: Manifest, split: str) -> Iterator[str]:
    return (shard.path for shard in manifest.splits[split] for _ in range(shard.pairs))


def _rows(split: str, paths: Iterator[str], metas: Sequence[PairMeta]) -> Iterator[dict[str, Any]]:
    for path, meta in zip(paths, metas, strict=True):
        yield {
            "split": split,
            "shard": path,
            "key": meta.key,
            "seconds": meta.samples / SAMPLE_RATE,
            "samples": meta.samples,
            "alignment_offset": meta.alignment_offset,
            "alignment_confidence": meta.alignment_confidence,
            "bandwidth_hz": meta.bandwidth_hz,
            "snr_db": meta.snr_db,
            "snr_reached_db": meta.snr_reached_db,
            "gain_db": meta.gain_db,
            "speaker": meta.speaker,
            "recording": meta.clean.path,
            "recording_start": meta.clean.start,
            "recording_sha256": meta.clean.sha256,
            "noises": [noise.path for noise in meta.noises],
            "voices": list(meta.voices),
            "rir": meta.rir,
            "rt60_seconds": meta.rt60_seconds,
            "denoiser": meta.denoiser,
            "denoiser_sha256": meta.denoiser_sha256,
            "seed": list(meta.seed),
            **_prefixed("quality", meta.quality),
            **_prefixed("variety", meta.variety),
        }


def _prefixed(name: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_{key}": value for key, value in values.items()}
