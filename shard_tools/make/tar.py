"""Pairs into a tar and its index, published whole."""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from timbre import shards, storage
from timbre.audio import SAMPLE_RATE, Int16Wave, encode_int16
from timbre.shards import AudioFormat, PairMeta, Rejection


class FinishedPair(NamedTuple):
    """A pair ready to be stored; its sides ``(samples,)``, ``noisy`` only if it is to be stored."""

    meta: PairMeta
    clean: Int16Wave
    degraded: Int16Wave
    noisy: Int16Wave | None = None


def write_shard(
    path: str,
    pairs: Sequence[FinishedPair],
    refusals: Mapping[str, Sequence[Rejection]],
    plan_sha256: str,
    audio_format: AudioFormat,
) -> None:
    """Publish the tar at ``path`` and then its index, which stands for a finished shard."""
    data = build_tar(pairs, audio_format)
    by_reason = {reason: tuple(pieces) for reason, pieces in sorted(refusals.items())}
    index = replace(shards.index_tar(data, path), plan=plan_sha256, rejected=by_reason)
    storage.publish(path, data)
    storage.publish(shards.index_path(path), shards.to_json(index))


def build_tar(pairs: Sequence[FinishedPair], audio_format: AudioFormat) -> bytes:
    """Return the tar of the pairs: equal pairs give equal bytes (no times, no owners)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for pair in pairs:
            for name, data in _members(pair, audio_format):
                header = tarfile.TarInfo(f"{pair.meta.key}.{name}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def _members(pair: FinishedPair, audio_format: AudioFormat) -> Iterator[tuple[str, bytes]]:
    # Noisy after the others: a reader that wants those two reads one stretch without it.
    for side in ("clean", "degraded", "noisy"):
        wave: Int16Wave | None = getattr(pair, side)
        if wave is not None:
            yield f"{side}.{audio_format}", encode_int16(wave, SAMPLE_RATE, audio_format)
    yield shards.META_MEMBER, shards.to_json(pair.meta)
