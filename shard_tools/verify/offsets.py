"""Alignment offsets measured again, and held against those that the metas say."""

from collections.abc import Iterator, Sequence

from shard_tools.verify.faults import Fault, PairFacts, ShardCheck, member_bytes
from timbre import shards
from timbre.audio import Wave, from_int16
from timbre.audio.align import MIN_CONFIDENCE, Alignment, estimate_offset
from timbre.errors import ShardError
from timbre.shards import PairEntry

OFFSET_TOLERANCE = 2


def check_offsets(
    check: ShardCheck, data: bytes, entries: Sequence[PairEntry], pairs: Sequence[PairFacts | None]
) -> Iterator[Fault | None]:
    """Yield what is wrong with each chosen pair whose offset could be measured again."""
    for number in (row for row in check.offsets if row < len(entries)):
        try:
            clean, degraded = (_wave(data, entries[number], s) for s in ("clean", "degraded"))
        except ShardError:  # _audio_faults of shard.py names it
            continue
        alignment = estimate_offset(clean, degraded, check.max_offset)
        pair = pairs[number]
        message = _contradiction(pair, alignment, check.max_offset) if pair else ""
        if message:
            yield Fault("offset", message, check.shard.path, entries[number].key)
        elif alignment.confidence >= MIN_CONFIDENCE:
            yield None


def _contradiction(pair: PairFacts, alignment: Alignment, max_offset: int) -> str:
    """Return what a measurement has against the stored alignment; empty if it proves nothing."""
    offset = pair.entry.alignment_offset
    confidence = pair.meta.alignment_confidence if pair.meta else 0.0
    if alignment.confidence >= MIN_CONFIDENCE:
        says = f"{alignment.offset} is measured, with confidence {alignment.confidence:.2f}"
        agrees = abs(alignment.offset - offset) <= OFFSET_TOLERANCE
        return "" if agrees else f"alignment_offset {offset}, but {says}"
    # Another edition may have looked farther, or into shorter pairs.
    in_reach = abs(offset) < max_offset <= pair.entry.samples // 2
    if not in_reach or confidence < MIN_CONFIDENCE or alignment.confidence >= confidence / 2:
        return ""
    says = f"{alignment.confidence:.2f} is measured: its sides do not belong together"
    return f"alignment_confidence {confidence:.2f}, but {says}"


def _wave(data: bytes, entry: PairEntry, side: str) -> Wave:
    """Return one side as ``(samples,)`` float32."""
    name = shards.audio_member(entry.members, side)
    wave = shards.decode_segment(member_bytes(data, entry, name), 0, entry.samples, name)
    return from_int16(wave)
