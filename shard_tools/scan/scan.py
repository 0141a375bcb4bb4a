"""Every clip of every source, measured, and judged by the config.

The parts of a scan are published below ``OUTPUT/catalogue/parts`` and stay there: the next scan
measures only the parts in which something is new.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from tqdm import tqdm

from shard_tools.config import PrepConfig, SplitRule
from shard_tools.executors.share import Share
from shard_tools.scan.catalogue import Clip, load_rows
from shard_tools.scan.parts import cut_into_parts, scan_part
from shard_tools.scan.sources import (
    ROLES,
    File,
    ManifestRow,
    SpeakerRule,
    list_files,
    open_source,
)
from timbre import storage
from timbre.command import print_result
from timbre.errors import AudioError
from timbre.shards import Split

RunTasks = Callable[..., Iterator[tuple[Any, Any]]]

PARTS = "catalogue/parts"
READ_THREADS = 16
MAX_PRINTED = 5
# A tenth of a second: what is shorter and goes round is a buzz.
SHORTEST_NOISE = 4800
SPLITS: tuple[Split, Split] = ("train", "val")


def scan(config: PrepConfig, run: RunTasks, share: Share) -> dict[str, list[Clip]]:
    """Return every clip of every source, refused or not; the parts are measured by ``run``.

    Each of several shares begins elsewhere and leaves out what others have done, so that they divide
    the work when they run at once, and each gets through it when it runs alone.
    """
    rules = {"speech": SpeakerRule(config.clips.speaker_level, config.clips.speaker_pattern)}
    origins = {role: getattr(config, role) for role in ROLES}
    files = {
        role: list_files(open_source(source, role), role, rules.get(role, SpeakerRule()))
        if source
        else []
        for role, source in origins.items()
    }
    parts = [part for role in ROLES for part in cut_into_parts(files[role], role)]
    folder = storage.join(config.output, PARTS)
    first = len(parts) * share.index // share.count
    total = sum(len(part.files) for part in parts)
    with tqdm(total=total, desc="scan", unit="clip", disable=None) as progress:
        order = [*parts[first:], *parts[:first]]
        parts_there = set(storage.find_below(folder)) if storage.is_folder(folder) else set()
        parts_to_do = [part for part in order if part.name not in parts_there]
        progress.update(total - sum(len(part.files) for part in parts_to_do))
        for part, _ in run(partial(scan_part, folder), parts_to_do, config.workers, gpu=False):
            progress.update(len(part.files))
    with ThreadPoolExecutor(READ_THREADS) as pool:
        urls = [storage.join(folder, part.name) for part in parts]
        clips = [
            clip
            for url, data in zip(urls, pool.map(storage.read, urls), strict=True)
            for clip in load_rows(data, url)
        ]
    rows: dict[str, list[Clip]] = {}
    for role in ROLES:
        count = len(files[role])
        rows[role] = _judge(clips[:count], files[role], role, config)
        if role == "speech" and config.clips.max_speaker_seconds is not None:
            rows[role] = _without_surplus(rows[role], config.clips.max_speaker_seconds)
        clips = clips[count:]
        _refuse_too_many_unreadable(rows[role], role, config.max_bad_fraction)
    return rows


def print_refusals(rows: Mapping[str, Sequence[Clip]], known_hashes: set[str]) -> None:
    """Print a line for each role and reason with the clips that are left out and not yet known."""
    for role, clips in rows.items():
        reasons: dict[str, list[str]] = {}
        for clip in clips:
            if clip.refused and clip.sha256 not in known_hashes:
                line = clip.path if clip.detail is None else f"{clip.path} ({clip.detail})"
                reasons.setdefault(clip.refused, []).append(line)
        for reason, lines in sorted(reasons.items()):
            print_result(
                f"{role}: left out as {reason}: {len(lines)} of {len(clips)}: {_shorten(lines)}"
            )


def _judge(
    clips: Sequence[Clip], files: Sequence[File], role: str, config: PrepConfig
) -> list[Clip]:
    """Return the clips with what their source says of them, and with why they are refused."""
    results, hashes = [], set()
    for clip, file in zip(clips, files, strict=True):
        reason, detail = clip.refused, clip.detail
        if reason is None and clip.sha256 in hashes:
            reason = "duplicate"
        elif reason is None:
            reason, detail = _reason(clip, file, role, config)
        hashes.add(clip.sha256)
        clip_of_source = replace(
            clip, speaker=file.speaker, licence=file.licence, refused=reason, detail=detail
        )
        results.append(_with_side(clip_of_source, file.row, role, config.split_by))
    return results


def _reason(clip: Clip, file: File, role: str, config: PrepConfig) -> tuple[str | None, str | None]:
    """Return why a clip is refused, in a word and in figures; None for one that takes part."""
    row, clips = file.row or ManifestRow(file.path), config.clips
    if config.split_by == "hint" and row.split_hint not in SPLITS:
        return "spare", f"split_hint {row.split_hint}"
    if role == "noise" and clip.samples < SHORTEST_NOISE:
        return "too_short", f"{clip.seconds} s"
    if role != "speech":
        return None, None
    if clip.level_db < clips.min_level_db:
        return "quiet", f"{clip.level_db} dBFS, under {clips.min_level_db}"
    if clip.bandwidth_hz < clips.min_bandwidth_hz:
        return "narrow_band", f"{clip.bandwidth_hz:.0f} Hz, under {clips.min_bandwidth_hz:.0f}"
    most = clips.max_pause_db
    if most is not None and row.pause_db is not None and row.pause_db > most:
        return "loud_pauses", f"{row.pause_db} dB, above {most}"
    return None, None


def _without_surplus(clips: Sequence[Clip], most: float) -> list[Clip]:
    """Return the clips, those refused that a speaker has beyond ``most`` seconds."""
    seconds: dict[str, float] = {}
    surplus = set()
    for clip in sorted(clips, key=lambda clip: clip.sha256):
        if clip.refused is None and clip.speaker is not None:
            sum_before = seconds.get(clip.speaker, 0.0)
            if sum_before + clip.seconds > most:
                surplus.add(clip.path)
            else:
                seconds[clip.speaker] = sum_before + clip.seconds
    return [
        replace(clip, refused="surplus", detail=f"{clip.speaker} has {most:g} s without it")
        if clip.path in surplus
        else clip
        for clip in clips
    ]


def _with_side(clip: Clip, row: ManifestRow | None, role: str, split_by: SplitRule) -> Clip:
    """Return a clip with what its manifest says of its side, where the config asks for it."""
    if row is None or clip.refused is not None or split_by == "name":
        return clip
    if split_by == "kind":
        return replace(clip, kind=row.kind, source=row.source) if role == "noise" else clip
    return replace(clip, split=next(split for split in SPLITS if split == row.split_hint))


def _refuse_too_many_unreadable(clips: Sequence[Clip], role: str, most: float) -> None:
    messages = [str(clip.detail) for clip in clips if clip.refused == "unreadable"]
    if len(messages) > most * len(clips):
        raise AudioError(
            f"{role}: {len(messages)} of {len(clips)} clips are unreadable, more than "
            f"max_bad_fraction {most}: {_shorten(messages)}"
        )


def _shorten(messages: Sequence[str]) -> str:
    return "; ".join(messages[:MAX_PRINTED]) + ("; …" if len(messages) > MAX_PRINTED else "")
