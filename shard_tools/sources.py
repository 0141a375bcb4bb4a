"""What there is to make pairs from: clips of speech, recordings of noise, room responses.

A source is a folder (metadata from a ``manifest.jsonl`` in it or beside it, if there is one) or a
``manifest.jsonl`` itself, one JSON object a line with at least ``file``.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from timbre import audio, storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import AudioError, ConfigError
from timbre.shards import OPEN

MANIFEST = "manifest.jsonl"
ROLES = ("speech", "noise", "rir")
SCAN_THREADS = 8


class Clip(NamedTuple):
    """One recording: ``samples`` counts at 48 kHz; ``speaker`` is None where nobody named one."""

    path: str
    url: str
    samples: int
    speaker: str | None


class Catalogue(NamedTuple):
    """The usable clips of a source, by path, and why others are not: one message each."""

    clips: tuple[Clip, ...]
    bad: tuple[str, ...]


def scan(source: str, role: str) -> Catalogue:
    """Return the catalogue of a source; ``role`` (speech, noise, rir) is its key in the config.

    A ``manifest.jsonl`` with rows in a folder for each of the roles gives each its own rows. Without
    a manifest the folder that a file lies in names its speaker.

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


@dataclass(config=OPEN)
class _ManifestRow:
    """What is read of a manifest's row; it may say more."""

    file: Annotated[str, Field(min_length=1)]
    speaker: str | None = None


class _Row(NamedTuple):
    path: str
    url: str
    speaker: str | None


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
    return [
        _Row(path, url, PurePosixPath(path).parent.name or None)
        for path, url in audio.find_below(folder).items()
    ]


def _read_manifest(url: str, role: str) -> list[_Row]:
    rows: dict[str, _Row] = {}
    for number, line in enumerate(storage.read(url).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{role}: {url}, line {number}"
        try:
            row = TypeAdapter(_ManifestRow).validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "the row"
            raise ConfigError(f"{where}: {key}: {first['msg']}") from None
        if row.file in rows:
            raise ConfigError(f"{where}: {row.file} is listed twice")
        rows[row.file] = _Row(row.file, "", row.speaker)
    return list(rows.values())


def _existing(rows: list[_Row], folder: str, manifest: str, role: str) -> list[_Row]:
    """Return the rows with their URLs; one listing of the folder finds every file that is missing."""
    present = storage.find_below(folder)
    if missing := [row.path for row in rows if row.path not in present]:
        shown = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise ConfigError(f"{role}: {manifest}: {len(missing)} rows name no file: {shown}")
    return [row._replace(url=present[row.path]) for row in rows]


def _examine(row: _Row) -> Clip | str:
    """Return the clip of a row, or what is wrong with it."""
    try:
        header = audio.info(row.url)
    except (AudioError, FileNotFoundError) as error:
        return str(error)
    samples = -(-header.samples * SAMPLE_RATE // header.sample_rate)
    return Clip(row.path, row.url, samples, row.speaker)
