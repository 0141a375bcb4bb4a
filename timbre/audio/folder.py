"""The audio below a folder as people have it: links, other formats, what may not be read."""

from pathlib import PurePosixPath
from typing import NamedTuple

from timbre import storage
from timbre.storage import FileStat

# What libsndfile decodes, by the ending of the name, in any case.
ENDINGS = frozenset(
    [
        ".wav",
        ".wave",
        ".bwf",
        ".rf64",
        ".w64",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".caf",
        ".au",
        ".snd",
    ]
)
# What it does not decode, and holds sound all the same.
OTHER_ENDINGS = frozenset(
    [
        ".m4a",
        ".m4b",
        ".m4r",
        ".mp4",
        ".m4v",
        ".mov",
        ".aac",
        ".adts",
        ".3gp",
        ".3g2",
        ".amr",
        ".awb",
        ".wma",
        ".asf",
        ".wmv",
        ".mka",
        ".mkv",
        ".webm",
        ".avi",
        ".ac3",
        ".eac3",
        ".dts",
        ".ape",
        ".wv",
        ".tta",
        ".tak",
        ".mpc",
        ".dsf",
        ".dff",
        ".ra",
        ".rm",
        ".alac",
        ".mp2",
        ".mp1",
        ".mpga",
        ".spx",
        ".gsm",
        ".vox",
        ".qcp",
        ".ts",
        ".mpg",
        ".mpeg",
        ".dss",
        ".ds2",
        ".voc",
        ".sph",
        ".shn",
    ]
)
# macOS keeps its own notes on NAME in ._NAME, and in this folder of an archive.
NOTES_PREFIX, NOTES_FOLDER = "._", "__MACOSX"


class AudioFolder(NamedTuple):
    """The audio files below a folder, and in words what is no part of them.

    ``left_out`` are files whose format timbre does not read, and what is no file; ``unreadable`` are
    folders that may not be entered.
    """

    files: list[FileStat]
    left_out: list[str]
    unreadable: list[str]


def find_audio(folder: str) -> AudioFolder:
    """Return what is audio below a folder, by path; links to folders are followed, each folder once."""
    passed_over: dict[str, storage.PassedOver] = {}
    listing = storage.find_files(folder, passed_over)
    files, left_out, unreadable = [], [], []
    for file in listing:
        reason = _reason_to_leave(file.path)
        if reason is not None:
            left_out.append(f"{storage.join(folder, file.path)}: {reason}")
        elif is_audio_name(file.path):
            files.append(file)
    for path, (reason, is_folder) in sorted(passed_over.items()):
        if is_folder:
            unreadable.append(f"{storage.join(folder, path)}: {reason}")
        else:
            left_out.append(f"{storage.join(folder, path)}: {reason}")
    return AudioFolder(files, left_out, unreadable)


def find_below(folder: str) -> dict[str, str]:
    """Return every audio file below a folder: its path there, and its URL."""
    return {file.path: storage.join(folder, file.path) for file in find_audio(folder).files}


def is_audio_name(path: str) -> bool:
    """Whether a file's ending says that it is audio which timbre reads."""
    return PurePosixPath(path).suffix.lower() in ENDINGS


def _reason_to_leave(path: str) -> str | None:
    """Return why a file that may hold sound is left out; None for audio, and for all other files."""
    pure = PurePosixPath(path)
    extension = pure.suffix.lower()
    if extension not in ENDINGS | OTHER_ENDINGS:
        return None
    if pure.name.startswith(NOTES_PREFIX) or NOTES_FOLDER in pure.parts:
        return "macOS's notes on a file, not the file"
    if extension in OTHER_ENDINGS:
        return f"timbre does not read {extension}; convert it, for example: ffmpeg -i IN{extension} OUT.wav"
    return None
