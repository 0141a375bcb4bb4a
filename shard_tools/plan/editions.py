"""The editions of a dataset: its first plan, and one more for every later addition of clips.

An edition is settled before its first shard is made: ``catalogue/ROLE-NNNNNN.jsonl`` says which
clips take part and on which side, and ``plan-NNNNNN.json``, published last, names the catalogues by
hash. Whoever makes shards afterwards, wherever, starts from these and never scans again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic.dataclasses import dataclass

from shard_tools.config import PrepConfig, differences, settings
from shard_tools.executors.share import Share
from shard_tools.plan.kinds import split_kinds
from shard_tools.plan.plan import SPLITS, make_plan, plan_size, split_names
from shard_tools.scan.catalogue import Clip, dump_rows, load_rows
from shard_tools.scan.scan import RunTasks, print_refusals, scan
from shard_tools.scan.sources import ROLES
from timbre import shards, storage
from timbre.command import print_result
from timbre.config import STRICT
from timbre.errors import ConfigError, ShardError
from timbre.shards import Split


@dataclass(config=STRICT)
class PlanRecord:
    """``plan-NNNNNN.json``: all that an edition's shards depend on, and how many there are."""

    schema: int
    edition: int
    settings: dict[str, Any]
    catalogues: dict[str, str]
    denoiser_sha256: str
    first_shard: dict[Split, int]
    shards: dict[Split, int]


class Edition(NamedTuple):
    """A plan's record, the hash that its shards name, and its catalogues by role."""

    record: PlanRecord
    sha256: str
    clips: dict[str, tuple[Clip, ...]]

    def usable_clips(self, role: str) -> tuple[Clip, ...]:
        """Return the clips of a role that take part."""
        return tuple(clip for clip in self.clips[role] if clip.refused is None)


def load_editions(config: PrepConfig, denoiser_sha256: str) -> list[Edition]:
    """Return the editions that an output folder holds, in order.

    Raises:
        ConfigError: they were made by another config or denoiser.
        ShardError: a catalogue is not the one that was planned with.
    """
    editions: list[Edition] = []
    while True:
        url = plan_url(config.output, len(editions) + 1)
        try:
            data = storage.read(url)
        except FileNotFoundError:
            return editions
        record = shards.from_json(PlanRecord, data, url)
        changes = differences(record.settings, settings(config))
        if record.denoiser_sha256 != denoiser_sha256:
            changes.append(
                f"the denoiser's weights were {record.denoiser_sha256[:12] or 'none'}, "
                f"are now {denoiser_sha256[:12] or 'none'}"
            )
        if changes:
            raise ConfigError(
                f"output: {config.output} holds shards of another plan: {'; '.join(changes)}; "
                "choose another output"
            )
        clips = {role: _load_catalogue(config.output, record, role) for role in record.catalogues}
        editions.append(Edition(record, storage.sha256(data), clips))


def begin_edition(
    config: PrepConfig,
    earlier: Sequence[Edition],
    denoiser_sha256: str,
    run: RunTasks,
    share: Share,
) -> Edition | None:
    """Scan the sources and settle the next edition; None if they hold no new clip.

    Raises:
        ConfigError: a source is missing, empty, or too small to split.
        AudioError: too many clips cannot be read.
    """
    rows_of = scan(config, run, share)
    known_hashes = {clip.sha256 for edition in earlier for clip in edition.clips["speech"]}
    new = [clip for clip in rows_of["speech"] if clip.sha256 not in known_hashes]
    print_refusals(rows_of, known_hashes if earlier else set())
    if earlier and all(clip.refused for clip in new):
        return None
    clips = {role: tuple(rows) for role, rows in rows_of.items()}
    clips["speech"] = _split_speech(new, config, earlier)
    for role in ("noise", "rir"):
        clips[role] = _split_pool(clips[role], role, config, earlier)
    if not [clip for clip in clips["noise"] if clip.refused is None]:
        raise ConfigError(f"noise: {config.noise}: no recording in it can be used")
    return _publish(config, clips, denoiser_sha256, earlier)


def plan_url(output: str, edition: int) -> str:
    """Return where the record of an edition lies."""
    return storage.join(output, f"plan-{edition:06d}.json")


def count_clips(editions: Sequence[Edition]) -> dict[str, dict[str, int]]:
    """Return how many clips of each role are used, and how many refused, by reason."""
    counts: dict[str, Counter[str]] = {role: Counter() for role in ROLES}
    for edition in editions:
        counts["speech"].update(clip.refused or "used" for clip in edition.clips["speech"])
    for role in ("noise", "rir"):
        counts[role].update(clip.refused or "used" for clip in editions[-1].clips[role])
    return {role: dict(sorted(count.items())) for role, count in counts.items()}


def _split_speech(
    clips: Sequence[Clip], config: PrepConfig, earlier: Sequence[Edition]
) -> tuple[Clip, ...]:
    """Return the clips with their side. Nobody who is on one already changes it.

    Where all clips are one speaker's, they are split by recording, and so are more of that speaker's.
    """
    earlier_clips = [clip for edition in earlier for clip in edition.usable_clips("speech")]
    usable = [clip for clip in clips if clip.refused is None]
    if config.split_by == "hint":
        return tuple(_split_by_hint(clips, "speech", earlier))
    if not earlier and len(usable) < 2:
        raise ConfigError(
            f"speech: {config.speech}: {len(usable)} usable clips; two are needed, one for validation"
        )
    sides: dict[str, set[Split | None]] = {}
    for clip in earlier_clips:
        sides.setdefault(clip.owner, set()).add(clip.split)
    split_owners = {owner for owner, splits in sides.items() if len(splits) > 1}
    if not earlier and len({clip.owner for clip in usable}) == 1:
        split_owners = {usable[0].owner}

    def name(clip: Clip) -> str:
        return clip.path if clip.owner in split_owners else clip.owner

    sides_before = {name(clip): clip.split for clip in earlier_clips if clip.split}
    split_of = split_names((name(clip) for clip in usable), config.val_ratio, sides_before)
    return tuple(
        clip if clip.refused else replace(clip, split=split_of[name(clip)]) for clip in clips
    )


def _split_pool(
    clips: Sequence[Clip], role: str, config: PrepConfig, earlier: Sequence[Edition]
) -> tuple[Clip, ...]:
    """Return noises or rooms with their side; a single one is heard on both, and has none.

    A recording that had a side before keeps it, whatever its name is now.
    """
    usable = [clip for clip in clips if clip.refused is None]
    side_of_hash = {
        clip.sha256: clip.split
        for edition in earlier
        for clip in edition.usable_clips(role)
        if clip.split is not None
    }
    sides_before = {
        clip.path: side_of_hash[clip.sha256] for clip in usable if clip.sha256 in side_of_hash
    }
    if config.split_by == "hint":
        return tuple(_split_by_hint(clips, role, earlier))
    if config.split_by == "kind" and role == "noise":
        return _split_noises(clips, config, [c for e in earlier for c in e.usable_clips("noise")])
    if len(usable) == 1 and not sides_before:
        print_result(f"{role}: a single recording: training and validation share it")
        return tuple(clips)
    split_of = split_names((clip.path for clip in usable), config.val_ratio, sides_before)
    if usable and (absent := {*SPLITS} - {*split_of.values()}):
        raise ConfigError(
            f"{role}: {getattr(config, role)}: no recording in it for {absent.pop()}: all were on the "
            "other side before; put those of this side back, or add others"
        )
    return tuple(
        clip if clip.refused else replace(clip, split=split_of[clip.path]) for clip in clips
    )


def _split_by_hint(clips: Sequence[Clip], role: str, earlier: Sequence[Edition]) -> Sequence[Clip]:
    """Return clips that have the side of their manifest's hint, if there are some for each side."""
    sides = {clip.split for clip in clips if clip.refused is None}
    if sides and not earlier and (absent := {*SPLITS} - sides):
        raise ConfigError(
            f"split_by hint: {role}: no usable recording whose split_hint is {absent.pop()!r}"
        )
    return clips


def _split_noises(
    clips: Sequence[Clip], config: PrepConfig, earlier: Sequence[Clip]
) -> tuple[Clip, ...]:
    """Return the noises with the side of their kind and source; those between the sides refused."""
    usable = [clip for clip in clips if clip.refused is None]
    split_of = split_kinds(usable, config.val_ratio, earlier)
    if usable and (absent := {*SPLITS} - {*split_of.values()}):
        raise ConfigError(
            f"split_by kind: noise: {config.noise}: no recording for {absent.pop()}: expected at "
            "least two kinds and two sources in its manifest; or split_by: name"
        )
    spare = sum(split is None for split in split_of.values())
    if spare:
        print_result(
            f"noise: left out as spare: {spare} of {len(usable)}: kind and source on different sides"
        )
    return tuple(
        clip
        if clip.refused
        else replace(clip, split=split_of[clip.path])
        if split_of[clip.path]
        else replace(clip, refused="spare", detail=f"kind {clip.kind}, source {clip.source}")
        for clip in clips
    )


def _publish(
    config: PrepConfig,
    clips: dict[str, tuple[Clip, ...]],
    denoiser_sha256: str,
    earlier: Sequence[Edition],
) -> Edition:
    number = len(earlier) + 1
    hashes = {}
    for role, rows in clips.items():
        data = dump_rows(rows)
        hashes[role] = storage.sha256(data)
        storage.publish(_catalogue_url(config.output, role, number), data)
    first = {split: sum(e.record.shards[split] for e in earlier) for split in SPLITS}
    usable = [clip for clip in clips["speech"] if clip.refused is None]
    plan = make_plan(usable, plan_size(config), number, first)
    counts = Counter(split for split, _ in plan.shards())
    record = PlanRecord(
        schema=shards.SCHEMA,
        edition=number,
        settings=settings(config),
        catalogues=hashes,
        denoiser_sha256=denoiser_sha256,
        first_shard=first,
        shards={split: counts[split] for split in SPLITS},
    )
    data = shards.to_json(record)
    if storage.exists(plan_url(config.output, number)):  # another share was faster
        return load_editions(config, denoiser_sha256)[-1]
    storage.publish(plan_url(config.output, number), data)
    return Edition(record, storage.sha256(data), clips)


def _load_catalogue(output: str, record: PlanRecord, role: str) -> tuple[Clip, ...]:
    url = _catalogue_url(output, role, record.edition)
    data = storage.read(url)
    if (sha256 := storage.sha256(data)) != record.catalogues[role]:
        raise ShardError(
            f"{url}: sha256 {sha256}, but the plan was made with {record.catalogues[role]}"
        )
    return tuple(load_rows(data, url))


def _catalogue_url(output: str, role: str, edition: int) -> str:
    return storage.join(output, "catalogue", f"{role}-{edition:06d}.jsonl")
