"""What a test asks: which parts it has, and which sound each version is."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from timbre import audio
from timbre.audio import SAMPLE_RATE
from timbre.errors import ConfigError
from timbre.listen.clips import REFERENCE, SystemFolders, load_clip
from timbre.listen.stimuli import ANCHOR, align, low_anchor

MUSHRA, PREFERENCE = "mushra", "ab"
METHODS = (MUSHRA, PREFERENCE)
# ITU-R BS.1534: no more than fifteen versions in a part, so that listeners do not tire.
MOST_VERSIONS = 15


class Plan(NamedTuple):
    """All that a test page holds: what it asks, as JSON can hold it, and its sounds as FLAC files."""

    tree: dict[str, Any]
    sounds: list[bytes]


def plan_test(
    folders: SystemFolders,
    clips: Sequence[str],
    method: str,
    seconds: float,
    against: str | None = None,
) -> Plan:
    """Return a test of some clips.

    Args:
        folders: the systems; for ``mushra`` the reference ``clean`` among them.
        clips: names of those to play.
        method: ``mushra``: every version is rated beside the reference, which is also hidden among
            them with the low anchor; ``ab``: one of two versions is preferred.
        seconds: how much of each clip is played, at most.
        against: of ``ab``: only pairs with this system; None: all pairs.

    Raises:
        ConfigError: there is no reference, or a system that is named is not there.
        AudioError, OSError: a clip cannot be read, is silent, or differs in length.
    """
    names = folders.systems
    if method == MUSHRA:
        _check_mushra(names)
    if against is not None and against not in names:
        raise ConfigError(f"--against {against}: expected one of {', '.join(names)}")
    guide = REFERENCE if REFERENCE in names else names[0]
    trials: list[dict[str, Any]] = []
    sounds: list[bytes] = []
    for name in clips:
        clip = load_clip(folders, name, seconds, guide)
        if method == MUSHRA:
            clip.waves[ANCHOR] = low_anchor(clip.waves[REFERENCE])
        numbers = {}
        for system, wave in align(clip).waves.items():
            numbers[system] = len(sounds)
            sounds.append(audio.encode_wave(wave, SAMPLE_RATE, "FLAC"))
        for versions in _trials(list(numbers), method, against):
            stimuli = [{"name": version, "sound": numbers[version]} for version in versions]
            trial: dict[str, Any] = {"clip": name, "stimuli": stimuli}
            trials.append(trial | ({"reference": numbers[REFERENCE]} if method == MUSHRA else {}))
    reference = REFERENCE if method == MUSHRA else None
    tree = {"method": method, "reference": reference, "trials": trials}
    digest = hashlib.sha256(json.dumps(tree).encode() + b"".join(sounds)).hexdigest()
    return Plan({"test": digest[:12], **tree}, sounds)


def _check_mushra(names: Sequence[str]) -> None:
    if REFERENCE not in names:
        raise ConfigError(
            f"mushra needs the folder {REFERENCE}, its reference; there are {', '.join(names)}. "
            "Without one, use --method ab"
        )
    if ANCHOR in names:
        raise ConfigError(f"the name {ANCHOR!r} is the test's own; give the system another one")
    if len(names) + 1 > MOST_VERSIONS:
        raise ConfigError(
            f"{len(names)} systems: expected at most {MOST_VERSIONS - 1} for mushra; choose some by "
            "--systems"
        )


def _trials(names: Sequence[str], method: str, against: str | None) -> Iterator[tuple[str, ...]]:
    """Yield the versions of each part of one clip."""
    if method == MUSHRA:
        yield tuple(names)
        return
    for pair in combinations(names, 2):
        if against is None or against in pair:
            yield pair
