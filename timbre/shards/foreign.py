"""Shards that timbre did not write: indexes and a manifest for a folder of WebDataset tars.

They are made on first use and lie beside the tars from then on, so that such a folder is read like
any other. For tars that may only be read they lie in this user's cache folder. Tars in
``FOLDER/train`` and ``FOLDER/val`` belong to that split, those in ``FOLDER`` itself to ``train``. Of each pair's ``pair.json`` only ``alignment_offset`` is needed; ``samples`` and
``bandwidth_hz`` are taken where they are there.
"""

import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain

from timbre import storage
from timbre.audio import SAMPLE_RATE
from timbre.command import print_warning
from timbre.errors import ShardError
from timbre.shards.foreign_changes import Changes, find_changes, named, save_stamps
from timbre.shards.foreign_home import home_of
from timbre.shards.foreign_index import fitting_index, index_tars
from timbre.shards.manifest import (
    MANIFEST_NAME,
    folder_of,
    index_path,
    load_manifest,
    manifest_url,
    version_name,
)
from timbre.shards.records import (
    SCHEMA,
    AudioFormat,
    Manifest,
    ShardEntry,
    ShardIndex,
    to_json,
)
from timbre.shards.tar import UNREADABLE, audio_member
from timbre.storage import FileStat, PassedOver

SPLITS = ("train", "val")
# In the ``config`` of a manifest that was made here: the folder may change, and is looked at again.
ADOPTED_CONFIG = {"adopted": "timbre made this manifest for a folder of tars"}
# Stores without listings of their own: what a folder holds is read once, off a page.
NO_LISTING = ("http://", "https://")
NO_CHANGES = Changes([], [], [])
LIKE_A_TAR = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz|tzst)$", re.I)
# So many pairs that cannot be decoded are left out; more, and the folder is refused.
UNREADABLE_FREE, MAX_UNREADABLE = 10, 0.1


def open_or_adopt(url: str, jobs: int = 0) -> tuple[Manifest, str]:
    """Return the manifest at ``url``, and the folder of the indexes; make them for a folder of tars.

    A manifest that was made here is made again, as its next version, where tars were added, changed
    or removed. ``jobs`` processes index tars; 0 does it by threads of this one.

    Raises:
        FileNotFoundError: there is neither a manifest nor a tar.
        ShardError: the manifest, or a tar, is damaged or holds something else; or all tars are gone.
        OSError: something cannot be read, or what was made cannot be written.
    """
    folder = folder_of(url)
    beside: Manifest | None = None
    try:
        beside = load_manifest(url)
    except FileNotFoundError:
        if url.endswith(".json") or not (tars := _find_tars(folder)):
            raise
    if beside:
        latest = manifest_url(url).rpartition("/")[2] == MANIFEST_NAME
        if not is_adopted(beside) or not latest or folder.startswith(NO_LISTING):
            return beside, folder
        tars = _find_tars(folder)
        if not any(_find_changes(beside, folder, folder, tars)):
            return beside, folder
    home = home_of(folder, [tar.path for tar in tars])
    before = beside if home == folder else _manifest_at(home)
    changes = _find_changes(before, home, folder, tars) if before else NO_CHANGES
    if before and not any(changes):
        return before, home
    if before:
        print_warning(
            f"{folder}: since {MANIFEST_NAME} was made {changes}; it is made again, the old one is "
            f"{version_name(before.version)}"
        )
    if home != folder:
        print_warning(f"{folder}: cannot be written to; the indexes of its tars go to {home}")
    return adopt(folder, home, tars, before, frozenset(changes.edits), jobs), home


def adopt(
    folder: str,
    home: str,
    tars: list[FileStat],
    before: Manifest | None = None,
    edits: Set[str] = frozenset(),
    jobs: int = 0,
) -> Manifest:
    """Index tars below a folder, publish indexes and manifest at their home, return the manifest.

    An index that is there and fits its tar is taken as it is, so what was interrupted goes on; but for
    tars in ``edits``. The manifest of ``before`` is kept under the name of its version;
    where nothing differs from it, it stays.
    """
    _print_left_out(folder)
    entries = index_tars(folder, home, tars, edits, jobs)
    save_stamps(home, tars)
    splits: dict[str, list[ShardEntry]] = defaultdict(list)
    formats, unreadable = set(), list[str]()
    lengths: dict[str, list[int]] = defaultdict(list)
    for entry, index in entries:
        rejections = index.rejected.get(UNREADABLE, ())
        unreadable += [f"{entry.path}: {rejection.path}" for rejection in rejections]
        if index.pairs:
            splits[_split_of(entry)].append(entry)
            formats |= {_audio_format(index, entry.path)}
            lengths[_split_of(entry)] += [pair.samples for pair in index.pairs]
    _check_enough(folder, tars, sum(map(len, lengths.values())), unreadable)
    manifest = Manifest(
        schema=SCHEMA,
        version=before.version + 1 if before else 1,
        sample_rate=SAMPLE_RATE,
        audio_format="wav" if "wav" in formats else "flac",
        save_segment_seconds=_usual_samples(lengths) / SAMPLE_RATE,
        splits={split: tuple(listed) for split, listed in splits.items()},
        rejected={UNREADABLE: len(unreadable)} if unreadable else {},
        clips={},
        hashes={},
        config=ADOPTED_CONFIG,
    )
    if before:
        if replace(manifest, version=before.version) == before:  # only the times of files differ
            return before
        storage.publish(storage.join(home, version_name(before.version)), to_json(before))
    storage.publish(manifest_url(home), to_json(manifest))
    return manifest


def is_adopted(manifest: Manifest) -> bool:
    """Whether timbre made this manifest for tars of another program, whose metas tell less."""
    return manifest.config == ADOPTED_CONFIG


def _usual_samples(lengths: Mapping[str, Sequence[int]]) -> int:
    """Return how long at least half of the pairs are: those that are trained on, if there are any.

    Nobody cut these pairs to one length. A few short ones are no reason to refuse a segment: it ends
    in silence for them. A pair of validation is measured whole.
    """
    return statistics.median_high(lengths.get("train") or chain.from_iterable(lengths.values()))


def _check_enough(folder: str, tars: list[FileStat], usable: int, unreadable: list[str]) -> None:
    """Name the pairs that cannot be decoded; ShardError if there are too many, or no others."""
    if not usable and not unreadable:
        raise ShardError(f"{folder}: {len(tars)} tars without a single pair")
    message = (
        f"{folder}: {len(unreadable)} of {usable + len(unreadable)} pairs cannot be decoded: "
        f"{named(unreadable)}"
    )
    most = max(UNREADABLE_FREE, MAX_UNREADABLE * usable)
    if not usable or len(unreadable) > most:
        raise ShardError(f"{message}; expected at most {most:.0f}")
    if unreadable:
        print_warning(f"{message}; left out, and named in the indexes")


def _manifest_at(url: str) -> Manifest | None:
    try:
        return load_manifest(url)
    except FileNotFoundError:
        return None


def _find_changes(manifest: Manifest, home: str, folder: str, tars: list[FileStat]) -> Changes:
    """Return how the tars differ from those that a manifest lists that was made here.

    Raises:
        ShardError: all of them are gone.
    """
    if folder.startswith(NO_LISTING):
        return NO_CHANGES
    listed = {shard.path: shard.bytes for shards in manifest.splits.values() for shard in shards}
    changes = find_changes(listed, tars, home)
    if not tars:
        raise ShardError(
            f"{manifest_url(home)}: {named(changes.removals)}: listed, but no tar is there; bring them "
            "back, or delete the manifest"
        )
    # A tar without pairs is in no manifest; its index says so.
    sizes = {tar.path: tar.bytes for tar in tars}
    additions = [
        path for path in changes.additions if not _is_known_as_empty(home, path, sizes[path])
    ]
    return changes._replace(additions=additions)


def _is_known_as_empty(home: str, path: str, tar_bytes: int) -> bool:
    url = storage.join(home, index_path(path))
    try:
        index = fitting_index(storage.read(url), url, tar_bytes)
    except FileNotFoundError:
        return False
    return index is not None and not index.pairs


def _split_of(entry: ShardEntry) -> str:
    return entry.path.rpartition("/")[0] or SPLITS[0]


def _find_tars(folder: str) -> list[FileStat]:
    """Return the tars of a folder, those behind links too."""
    return [file for file in storage.find_files(folder, {}) if _is_tar(file.path)]


def _print_left_out(folder: str) -> None:
    """Name what could be taken for a tar of the folder, and is not served."""
    passed_over: dict[str, PassedOver] = {}
    files = storage.find_files(folder, passed_over)
    for path, (reason, is_folder) in passed_over.items():
        if (is_folder and path in SPLITS) or path.endswith(".tar"):
            print_warning(f"{storage.join(folder, path)}: {reason}; left out")
    others = [
        file.path
        for file in files
        if LIKE_A_TAR.search(file.path)
        and not _is_tar(file.path)
        and not storage.is_companion(file.path)
    ]
    if others:
        print_warning(
            f"{folder}: left out: {named(others)}; expected tars that are not compressed, named .tar, in "
            "the folder itself, in train/ or in val/"
        )


def _is_tar(path: str) -> bool:
    """Whether this is the name of a tar of a split, and no companion of macOS."""
    place = path.rpartition("/")[0]
    return path.endswith(".tar") and place in ("", *SPLITS) and not storage.is_companion(path)


def _audio_format(index: ShardIndex, path: str) -> AudioFormat:
    member = audio_member(index.pairs[0].members, "clean")
    extension = member.rpartition(".")[2]
    if extension not in ("flac", "wav"):
        raise ShardError(f"{path}: {index.pairs[0].key}.{member}: expected .flac or .wav")
    return "flac" if extension == "flac" else "wav"
