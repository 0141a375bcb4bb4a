"""Pairs into a tar and its index, published whole."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from timbre import shards, storage, tars
from timbre.audio import SAMPLE_RATE, Int16Wave, encode_int16
from timbre.shards import AudioFormat, PairMeta, Rejection


class FinishedPair(NamedTuple):
    """A pair ready to be stored; both sides ``(samples,)``."""

    meta: PairMeta
    clean: Int16Wave
    degraded: Int16Wave


def write_shard(
    path: str,
    pairs: Sequence[FinishedPair],
    rejected: Mapping[str, Sequence[Rejection]],
    plan_sha256: str,
    audio_format: AudioFormat,
) -> None:
    """Publish the tar at ``path`` and then its index, which stands for a finished shard."""
    data = build_tar(pairs, audio_format)
    told = {reason: tuple(refused) for reason, refused in sorted(rejected.items())}
    index = replace(tars.index_tar(data, path), plan=plan_sha256, rejected=told)
    storage.publish(path, data)
    storage.publish(shards.index_path(path), shards.to_json(index))


def build_tar(pairs: Sequence[FinishedPair], audio_format: AudioFormat) -> bytes:
    """Return the tar of the pairs: equal pairs give equal bytes (no times, no owners)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for pair in pairs:
            for name, data in [
                (f"clean.{audio_format}", encode_int16(pair.clean, SAMPLE_RATE, audio_format)),
                (
                    f"degraded.{audio_format}",
                    encode_int16(pair.degraded, SAMPLE_RATE, audio_format),
                ),
                (shards.META_MEMBER, shards.to_json(pair.meta)),
            ]:
                header = tarfile.TarInfo(f"{pair.meta.key}.{name}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()
