"""What there is to make pairs from: clips of speech, recordings of noise, room responses.

A source is a folder (metadata from a ``manifest.jsonl`` in it or beside it, if there is one) or a
``manifest.jsonl`` itself, one JSON object a line with at least ``file``.
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from timbre import audio, storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import AudioError, ConfigError

MANIFEST = "manifest.jsonl"
ROLES = ("speech", "noise", "rir")
SCAN_THREADS = 8


class Clip(NamedTuple):
    """One recording: ``samples`` counts at 48 kHz; ``speaker`` is None where nobody named one."""

    path: str
    url: str
    samples: int
    speaker: str | None
    licence: str | None


class Catalogue(NamedTuple):
    """The usable clips of a source, by path, and why others are not: one message each."""

    clips: tuple[Clip, ...]
    bad: tuple[str, ...]


def scan(source: str, role: str) -> Catalogue:
    """Return the catalogue of a source; ``role`` (speech, noise, rir) is its key in the config.

    A ``manifest.jsonl`` with rows in a folder for each of the roles gives each its own rows. Without a manifest the folder that a file lies in names its speaker.

    Raises:
        ConfigError: no such source, nothing in it, or a manifest row that names no file.
    """
    rows = _rows(source, role)
    if not rows:
        endings = " ".join(sorted(audio.ENDINGS))
        raise ConfigError(f"{role}: {source}: no audio in it (looked for {endings})")
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        found = list(tqdm(pool.map(_examine, rows), f"scan {role}", len(rows), disable=None))
    return Catalogue(
        tuple(clip for clip in found if isinstance(clip, Clip)),
        tuple(message for message in found if isinstance(message, str)),
    )


def refuse_too_many_bad(bad: Iterable[str], total: int, max_bad_fraction: float) -> None:
    """Raise AudioError, naming the first few, if ``bad`` is more than that share of ``total``."""
    messages = list(bad)
    if len(messages) > max_bad_fraction * total:
        shown = "; ".join(messages[:5]) + ("; …" if len(messages) > 5 else "")
        raise AudioError(
            f"{len(messages)} of {total} clips are unusable, "
            f"more than max_bad_fraction {max_bad_fraction}: {shown}"
        )


class _Row(NamedTuple):
    path: str
    url: str
    speaker: str | None
    licence: str | None


def _rows(source: str, role: str) -> list[_Row]:
    """Return what there is to scan, in an order that depends on the names alone."""
    if source.endswith(".jsonl"):
        if not storage.exists(source):
            raise ConfigError(f"{role}: {source}: no such manifest")
        folder = source.rpartition("/")[0] or "."
        rows = _read_manifest(source, role)
        if {PurePosixPath(row.path).parts[0] for row in rows} >= set(ROLES):
            rows = [row for row in rows if PurePosixPath(row.path).parts[0] == role]
        return sorted(_existing(rows, folder, source, role))
    folder = source.rstrip("/")
    if not storage.is_folder(folder):
        raise ConfigError(f"{role}: {source}: no such folder")
    beside, _, name = folder.rpartition("/")
    for manifest, below in [
        (storage.join(folder, MANIFEST), ""),
        (f"{beside or '.'}/{MANIFEST}", f"{name}/"),
    ]:
        if storage.exists(manifest):
            rows = [row for row in _read_manifest(manifest, role) if row.path.startswith(below)]
            if rows:
                return sorted(_existing(rows, manifest.rpartition("/")[0], manifest, role))
    return sorted(_row_of_file(url, folder) for url in _audio_files(folder))


def _audio_files(folder: str) -> list[str]:
    return [u for u in storage.find(folder) if PurePosixPath(u).suffix.lower() in audio.ENDINGS]


def _row_of_file(url: str, folder: str) -> _Row:
    root = str(storage.local_path(folder)) if storage.is_local(folder) else folder
    path = PurePosixPath(url).relative_to(root)
    return _Row(str(path), url, path.parent.name or None, None)


def _read_manifest(url: str, role: str) -> list[_Row]:
    rows = []
    for number, line in enumerate(storage.read(url).decode().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{role}: {url}, line {number}: not JSON: {error}") from None
        if not isinstance(row, dict) or not isinstance(row.get("file"), str):
            raise ConfigError(f"{role}: {url}, line {number}: expected an object with 'file'")
        rows.append(_Row(row["file"], "", row.get("speaker"), row.get("licence")))
    return rows


def _existing(rows: list[_Row], folder: str, manifest: str, role: str) -> list[_Row]:
    """Return the rows with their URLs; one listing of the folder finds every file that is missing."""
    root = str(storage.local_path(folder)) if storage.is_local(folder) else folder
    present = set(storage.find(folder))
    placed = [row._replace(url=f"{root}/{row.path}") for row in rows]
    if missing := [row.path for row in placed if row.url not in present]:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ConfigError(f"{role}: {manifest}: {len(missing)} rows name no file: {shown}")
    return placed


def _examine(row: _Row) -> Clip | str:
    """Return the clip of a row, or what is wrong with it."""
    try:
        header = audio.info(row.url)
    except (AudioError, FileNotFoundError) as error:
        return str(error)
    samples = -(-header.samples * SAMPLE_RATE // header.sample_rate)
    return Clip(row.path, row.url, samples, row.speaker, row.licence)
