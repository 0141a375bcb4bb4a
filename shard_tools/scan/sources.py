"""Which files a source lists, and what is known of them before they are opened.

A source is a folder (metadata from a ``manifest.jsonl`` in it or beside it, if there is one) or a
``manifest.jsonl`` itself, one JSON object a line with at least ``file``.
"""

import os
import posixpath
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from timbre import audio, storage
from timbre.audio import AudioFolder, find_audio
from timbre.command import print_result
from timbre.errors import ConfigError
from timbre.shards import OPEN

MANIFEST = "manifest.jsonl"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_PRINTED = 5
ROLES = ("speech", "noise", "rir")


class SpeakerRule(NamedTuple):
    """How a path names its speaker, where no manifest does; by default nobody is named.

    ``level`` picks one of the folders in the path (0 the top one, -1 the one that the file lies in),
    ``pattern`` the part of the path that its group ``speaker``, or else its first, matches.
    """

    level: int | None = None
    pattern: str | None = None


class File(NamedTuple):
    """A file of a source. ``stamp`` changes when its content does, as far as the store tells."""

    path: str
    url: str
    bytes: int
    stamp: str
    speaker: str | None
    licence: str | None
    row: "ManifestRow | None" = None


class ClipSource(NamedTuple):
    """Where a source's paths start, and the rows of its manifest if it has one."""

    root: str
    manifest: str | None
    rows: "tuple[ManifestRow, ...]"


@dataclass(config=OPEN)
class ManifestRow:
    """What is read of a manifest's row; it may say more."""

    file: Annotated[str, Field(min_length=1)]
    speaker: str | None = None
    licence: str | None = None
    license: str | None = None
    kind: str | None = None
    source: str | None = None
    split_hint: str | None = None
    pause_db: float | None = None


def open_source(source: str, role: str) -> ClipSource:
    """Return what a source is; ``role`` (speech, noise, rir) is its key in the config.

    A manifest whose rows lie in folders named by the roles gives each role its own.

    Raises:
        ConfigError: there is no such source, or a row of its manifest names no file.
    """
    if source.endswith(".jsonl"):
        rows = _read_manifest(source, role)
        if rows is None:
            raise ConfigError(f"{role}: {source}: no such manifest")
        tops = {row.file.partition("/")[0] for row in rows}
        if len(tops) > 1 and tops <= set(ROLES):
            rows = [row for row in rows if row.file.startswith(f"{role}/")]
        return ClipSource(_parent(source), source, tuple(rows))
    folder = source.rstrip("/")
    if not storage.is_folder(folder):
        raise ConfigError(f"{role}: {source}: no such folder")
    name = folder.rpartition("/")[2]
    for manifest, below in [
        (storage.join(folder, MANIFEST), ""),
        (storage.join(_parent(folder), MANIFEST), f"{name}/"),
    ]:
        rows = _read_manifest(manifest, role) or []
        if rows := [row for row in rows if row.file.startswith(below)]:
            return ClipSource(_parent(manifest), manifest, tuple(rows))
    return ClipSource(folder, None, ())


def list_files(source: ClipSource, role: str, rule: SpeakerRule) -> list[File]:
    """Return the audio files of a source by path, in an order that depends on the paths alone.

    Raises:
        ConfigError: there are none, a row of the manifest names no file, or no path matches the rule.
    """
    if source.manifest is None:
        folder = find_audio(source.root)
        _say_left_out(role, folder)
        matches = _speaker_rule(rule)
        files = [
            File(f.path, storage.join(source.root, f.path), f.bytes, f.stamp, matches(f.path), None)
            for f in folder.files
        ]
        if files and rule.pattern and not any(file.speaker for file in files):
            raise ConfigError(
                f"clips.speaker_pattern: {rule.pattern!r} matches no path in {source.root}, "
                f"for example {files[0].path}"
            )
    else:
        files = _list_by_manifest(source, role, _speaker_rule(rule))
    if odd := [file.path for file in files if not _is_text(file.path)]:
        print_result(
            f"{role}: left out for a name that is not UTF-8: {len(odd)} files, such as {odd[0]!r}"
        )
        files = [file for file in files if _is_text(file.path)]
    if not files:
        endings = " ".join(sorted(audio.ENDINGS))
        raise ConfigError(f"{role}: {source.root}: no audio in it (looked for {endings})")
    return sorted(files, key=lambda file: file.path)


def _list_by_manifest(
    source: ClipSource, role: str, speaker_of: Callable[[str], str | None]
) -> list[File]:
    """Return the files of a manifest's rows; one listing of the folder finds every missing one."""
    rows = {row.file: row for row in source.rows}
    tops = {path.partition("/")[0] for path in rows if "/" in path}
    # A manifest beside the folder of one role need not make us list all the others.
    below = tops.pop() if len(tops) == 1 and all("/" in path for path in rows) else ""
    folder = storage.join(source.root, below) if below else source.root
    present = {
        f"{below}/{file.path}" if below else file.path: file
        for file in storage.find_files(folder, {})  # through links to folders, too
    }
    if absent := [path for path in rows if path not in present]:
        text = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
        raise ConfigError(f"{role}: {source.manifest}: {len(absent)} rows name no file: {text}")
    others = [path for path in present if path not in rows and audio.is_audio_name(path)]
    if below and others:
        print_result(
            f"{role}: {len(others)} files in {folder} are not in {source.manifest}: left out"
        )
    return [
        File(
            path,
            storage.join(source.root, path),
            present[path].bytes,
            present[path].stamp,
            row.speaker or speaker_of(path.removeprefix(f"{role}/")),
            row.licence or row.license,
            row,
        )
        for path, row in rows.items()
    ]


def _say_left_out(role: str, folder: AudioFolder) -> None:
    """Print what may hold sound and is not used: other formats, pipes, folders that may not be read."""
    for lines, what in [(folder.left_out, "files"), (folder.unreadable, "folders")]:
        if lines:
            more = "; …" if len(lines) > MAX_PRINTED else ""
            print_result(
                f"{role}: left out: {len(lines)} {what}: {'; '.join(lines[:MAX_PRINTED])}{more}"
            )


def _read_manifest(url: str, role: str) -> list[ManifestRow] | None:
    """Return the rows of a manifest of recordings; None where there is none."""
    try:
        data = storage.read(url)
    except FileNotFoundError:
        return None
    adapter = TypeAdapter(ManifestRow)
    rows: dict[str, ManifestRow] = {}
    for number, line in enumerate(data.removeprefix(BYTE_ORDER_MARK).splitlines(), 1):
        if not line.strip():
            continue
        where = f"{role}: {url}, line {number}"
        try:
            row = adapter.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "the row"
            raise ConfigError(f"{where}: {key}: {first['msg']}") from None
        row = replace(row, file=_below(row.file, _parent(url), where))
        if row.file in rows:
            raise ConfigError(f"{where}: {row.file} is listed twice")
        rows[row.file] = row
    return list(rows.values())


def _below(file: str, folder: str, where: str) -> str:
    """Return a row's path as it is below the manifest's folder, whether or not it says the whole."""
    path = file
    if "://" in folder:
        path = path.removeprefix(f"{folder}/")
    elif PurePosixPath(file).is_absolute():
        path = os.path.relpath(file, Path(folder).absolute())
    path = posixpath.normpath(path)
    if path.startswith(("../", "/")) or path in ("..", ".") or "://" in path:
        raise ConfigError(
            f"{where}: file {file!r}: expected a path below {folder}, the manifest's folder"
        )
    return path


def _speaker_rule(rule: SpeakerRule) -> Callable[[str], str | None]:
    """Return the rule as a function of the path."""
    if rule.pattern:
        pattern = re.compile(rule.pattern)
        group: str | int = "speaker" if "speaker" in pattern.groupindex else 1

        def by_pattern(path: str) -> str | None:
            match = pattern.search(path)
            return match.group(group) if match else None

        return by_pattern

    def by_level(path: str) -> str | None:
        folders = PurePosixPath(path).parts[:-1]
        if rule.level is None or not -len(folders) <= rule.level < len(folders):
            return None
        return folders[rule.level]

    return by_level


def _is_text(path: str) -> bool:
    """Whether a file name could be decoded, so that it can be written down."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parent(url: str) -> str:
    folder, slash, _ = url.rpartition("/")
    return folder or ("/" if slash else ".")
