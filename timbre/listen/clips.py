"""Clips to compare: a folder a system, in each the same recordings."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave, loudest_start
from timbre.errors import AudioError, ConfigError

REFERENCE = "clean"


class Clip(NamedTuple):
    """One recording as every system gives it, ``(samples,)`` at 48 kHz, all equally long."""

    name: str
    waves: dict[str, Wave]


class SystemFolders(NamedTuple):
    """The files of each system, by the name of the clip: ``urls[system][clip]``."""

    systems: list[str]
    clips: list[str]
    urls: dict[str, dict[str, str]]


def open_folder(folder: str, systems: Sequence[str] | None) -> SystemFolders:
    """Return what a folder holds: ``SYSTEM/CLIP.wav``, the same clips for every system.

    Args:
        folder: path or URL.
        systems: only these of its folders, in this order; None takes all that hold audio.

    Raises:
        ConfigError: there is no such folder, it holds fewer than two systems, or a system lacks a
            clip of another.
    """
    urls: dict[str, dict[str, str]] = {}
    for path, url in audio.find_below(folder).items():
        system, _, clip = path.partition("/")
        if clip:
            name = str(PurePosixPath(clip).with_suffix(""))
            if name in urls.setdefault(system, {}):
                raise ConfigError(f"{url}: {system} holds {name} twice, with another ending")
            urls[system][name] = url
    names = list(systems or sorted(urls))
    if unknown := [name for name in names if name not in urls]:
        there = ", ".join(sorted(urls)) or "none"
        raise ConfigError(f"{folder}: no folder {unknown[0]} with audio; there are: {there}")
    if len(names) < 2:
        raise ConfigError(
            f"{folder}: expected a folder for each of two or more systems, each with the same clips"
        )
    clips = sorted(set().union(*(urls[name] for name in names)))
    for clip in clips:
        if lacking := [name for name in names if clip not in urls[name]]:
            raise ConfigError(f"{folder}: {lacking[0]} lacks the clip {clip}, which others have")
    return SystemFolders(names, clips, urls)


def load_clip(folders: SystemFolders, clip: str, seconds: float, guide: str) -> Clip:
    """Return one clip, cut to the same seconds for every system: where ``guide`` is loudest.

    Channels are averaged, and another rate becomes 48 kHz.

    Raises:
        AudioError, OSError: a file cannot be read, or is not as long as the others.
    """
    waves = {name: audio.read_mono(folders.urls[name][clip]) for name in folders.systems}
    lengths = {name: len(wave) for name, wave in waves.items()}
    other = next((name for name in lengths if lengths[name] != lengths[guide]), None)
    if other:
        raise AudioError(
            f"{folders.urls[other][clip]}: {lengths[other]} samples at 48 kHz, but {lengths[guide]} in "
            f"{folders.urls[guide][clip]}; expected equal lengths"
        )
    samples = round(seconds * SAMPLE_RATE)
    start = loudest_start(waves[guide], samples)
    return Clip(clip, {name: wave[start : start + samples] for name, wave in waves.items()})
