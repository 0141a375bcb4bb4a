"""Every shard of a manifest checked, and the manifest itself."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pydantic.dataclasses import dataclass
from tqdm import tqdm

from shard_tools.metas import choose, open_manifest
from shard_tools.verify.faults import Fault, IndexSummary, ShardCheck, ShardResult, count_refusals
from shard_tools.verify.leakage import Ledger
from shard_tools.verify.shard import check_shard
from timbre import shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.cores import granted_cores
from timbre.errors import ShardError
from timbre.shards import Manifest, ShardEntry, ShardIndex

MAX_STRAY = 5
# A shard's number has six digits.
NUMBERS = 10**6
# Where there is no plan to say how many shards there are, so many beyond the listed ones are looked at.
FEW = 100
# Offsets are measured again on this share of the pairs, within these limits.
OFFSETS_SHARE, FEWEST_OFFSETS, MOST_OFFSETS = 0.02, 20, 500
MAX_OFFSET_SECONDS = 0.02


class Report(NamedTuple):
    """What was looked at and what is wrong; ``seconds`` are those of the pairs."""

    manifest: str
    pairs: int
    shards: int
    seconds: float
    checked_offsets: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


def verify(manifest_url: str, workers: int | None = None, offsets: int | None = None) -> list[str]:
    """Return everything wrong with a manifest's shards, one message each; see :func:`check_manifest`."""
    return [str(fault) for fault in check_manifest(manifest_url, workers, offsets).faults]


def check_manifest(
    manifest_url: str, workers: int | None = None, offsets: int | None = None
) -> Report:
    """Return what is wrong with a manifest's shards.

    Every tar is read whole and compared with its hash, its index is derived again, every pair is
    decoded, and no two pairs may share what they must not. A worker holds one shard at a time.

    Args:
        manifest_url: the manifest or its folder.
        workers: threads; decoding and hashing leave Python's lock. None: one a core.
        offsets: on so many pairs the alignment offset is measured again; None: 2 %, 20 to 500.

    Raises:
        ConfigError: there is no manifest.
        ShardError: the manifest is damaged itself.
    """
    manifest = open_manifest(manifest_url)
    folder = shards.folder_of(manifest_url)
    checks = _checks(manifest, folder, offsets)
    faults = list(_list_faults(manifest))
    ledger = Ledger()
    indexes: list[IndexSummary | None] = []
    pairs = samples = checked_offsets = bare = 0
    for result in _check_all(checks, workers or granted_cores()):
        faults += result.faults
        indexes.append(result.summary)
        pairs, samples = pairs + len(result.pairs), samples + result.samples
        checked_offsets += result.offsets
        bare += sum(pair.meta is None for pair in result.pairs)
        plan = result.summary.plan if result.summary else ""
        for pair in result.pairs:
            faults += ledger.add(result.check.split, result.check.shard.path, plan, pair)
    faults += _plan_faults(checks, indexes)
    faults += _rejected_faults(manifest, folder, indexes)
    leaks = ledger.leaks()
    notes = [*leaks.notes, *_stray_shards(manifest, folder)]
    if bare:
        notes.append(f"{bare} pairs say only how they are aligned: nobody knows what they share")
    if unsure := sum(len(check.offsets) for check in checks) - checked_offsets:
        notes.append(f"{unsure} offsets could not be measured again with confidence")
    return Report(
        shards.manifest_url(manifest_url),
        pairs,
        len(checks),
        round(samples / SAMPLE_RATE, 3),
        checked_offsets,
        (*faults, *leaks.faults),
        tuple(notes),
    )


def _checks(manifest: Manifest, folder: str, offsets: int | None) -> list[ShardCheck]:
    # A path that is listed twice is a fault of the manifest, not of everything in the shard.
    entries = {shard.path: (split, shard) for split, shard in _entries(manifest)}
    counts = [shard.pairs for _, shard in entries.values()]
    if offsets is None:
        share = round(OFFSETS_SHARE * sum(counts))
        offsets = min(max(share, FEWEST_OFFSETS), MOST_OFFSETS)
    seconds = float(manifest.config.get("max_offset_seconds", MAX_OFFSET_SECONDS))
    max_offset = round(seconds * SAMPLE_RATE)
    return [
        ShardCheck(folder, split, shard, numbers, max_offset, "plan" in manifest.hashes)
        for (split, shard), numbers in zip(entries.values(), choose(counts, offsets), strict=True)
    ]


def _check_all(checks: Sequence[ShardCheck], workers: int) -> Iterator[ShardResult]:
    """Yield every shard's result in the order of the checks."""
    with ThreadPoolExecutor(workers) as pool:
        results = pool.map(check_shard, checks)
        yield from tqdm(results, "verify", len(checks), unit="shard", disable=None)


def _list_faults(manifest: Manifest) -> Iterator[Fault]:
    paths = Counter(shard.path for _, shard in _entries(manifest))
    if not paths:
        yield Fault("manifest", "the manifest lists no shards")
    for path, times in paths.items():
        if times > 1:
            yield Fault("manifest", f"the manifest lists it {times} times", path)


def _plan_faults(
    checks: Sequence[ShardCheck], indexes: Sequence[IndexSummary | None]
) -> Iterator[Fault]:
    """Yield a fault for each index that names no plan, if any other does."""
    has_plan = any(index is not None and index.plan for index in indexes)
    for check, index in zip(checks, indexes, strict=True):
        if has_plan and index is not None and not index.plan:
            where = shards.index_path(check.shard.path)
            yield Fault("plan", "it names no plan, unlike other indexes", where)


def _rejected_faults(
    manifest: Manifest, folder: str, indexes: Sequence[IndexSummary | None]
) -> Iterator[Fault]:
    refusals: Counter[str] = Counter()
    for index in indexes:
        if index is None:  # a fault already
            return
        refusals += index.refusals
    if refusals == manifest.rejected:
        return
    # A shard all of whose pairs were refused has an index, but no place in the manifest.
    for stray_index in _unlisted_indexes(manifest, folder):
        if isinstance(stray_index, Fault):
            yield stray_index
        elif not stray_index.pairs:
            refusals += count_refusals(stray_index)
    for reason in sorted(refusals.keys() | manifest.rejected.keys()):
        entry_count = manifest.rejected.get(reason, 0)
        if refusals[reason] != entry_count:
            message = f"the manifest counts {entry_count} pairs refused as {reason}, the indexes "
            yield Fault("manifest", message + str(refusals[reason]))


def _unlisted_indexes(manifest: Manifest, folder: str) -> Iterator[ShardIndex | Fault]:
    """Yield the indexes of planned shards that the manifest leaves out; damage as a fault."""
    counts = _planned_shards(manifest, folder)
    for split, entries in manifest.splits.items():
        entry_paths = {shard.path for shard in entries}
        count = counts.get(split, len(entry_paths) + FEW)
        paths = (shards.shard_path(split, number) for number in range(min(count, NUMBERS)))
        for path in (path for path in paths if path not in entry_paths):
            try:
                index = _index_at(folder, path)
            except ShardError as error:
                where = shards.index_path(path)
                yield Fault("index", f"in no manifest, and damaged: {error}", where)
                continue
            except OSError as error:  # the next ones would fail alike
                yield Fault("unreadable", str(error), shards.index_path(path))
                break
            if index is not None:
                yield index


@dataclass(config=shards.OPEN)
class _Plan:
    """How many shards an edition and those before it have, out of ``plan-NNNNNN.json``."""

    first_shard: dict[str, int]
    shards: dict[str, int]


def _planned_shards(manifest: Manifest, folder: str) -> dict[str, int]:
    """Return how many shards each split was planned to have; nothing where no plan is there."""
    url = storage.join(folder, f"plan-{manifest.version:06d}.json")
    try:
        data = storage.read(url)
    except FileNotFoundError:
        return {}
    if storage.sha256(data) != manifest.hashes.get("plan"):
        return {}
    plan = shards.from_json(_Plan, data, url)
    return {split: plan.first_shard[split] + count for split, count in plan.shards.items()}


def _index_at(folder: str, path: str) -> ShardIndex | None:
    url = storage.join(folder, shards.index_path(path))
    try:
        return shards.from_json(ShardIndex, storage.read(url), url)
    except FileNotFoundError:
        return None


def _stray_shards(manifest: Manifest, folder: str) -> Iterator[str]:
    """Yield a note if there are tars that no version of the manifest lists; in a local folder only."""
    if not storage.is_local(folder):
        return
    versions = [manifest]
    for name in sorted(path.name for path in storage.local_path(folder).glob("manifest*.json")):
        try:
            versions.append(shards.load_manifest(storage.join(folder, name)))
        except (ShardError, OSError) as error:
            yield str(error)
    paths = {shard.path for version in versions for _, shard in _entries(version)}
    stray = []
    for split in manifest.splits:
        below = storage.find_below(storage.join(folder, split))
        tars = {storage.join(split, path) for path in below if path.endswith(".tar")}
        for path in sorted(tars - paths):
            try:
                index = _index_at(folder, path)
            except (ShardError, OSError) as error:
                yield f"of a tar in no manifest: {error}"
                index = None
            if index is None or index.pairs:
                stray.append(path)
    if stray:
        text = ", ".join(stray[:MAX_STRAY]) + (", …" if len(stray) > MAX_STRAY else "")
        yield f"{len(stray)} tars are in no manifest: {text}"


def _entries(manifest: Manifest) -> Iterator[tuple[str, ShardEntry]]:
    return ((split, shard) for split, entries in manifest.splits.items() for shard in entries)
