"""The pairs that are measured: of a manifest's split, or of a folder of noisy and clean files."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from timbre import audio, shards, storage
from timbre.audio import SAMPLE_RATE, metrics
from timbre.denoiser_names import from_record
from timbre.errors import AudioError, ConfigError
from timbre.shards import (
    META_MEMBER,
    DataSource,
    PairList,
    PairPlace,
    holds_noisy,
    load_pair,
    open_corpus,
)

FULL_HZ = SAMPLE_RATE / 2
BABBLE = "babble"
# Of pairs of `timbre prep` that are no telephone's.
NO_CODEC = "no codec"


class Labels(NamedTuple):
    """What groups pairs; None is not known."""

    speaker: str | None
    snr_db: float | None
    noise: str | None
    room: str | None
    bandwidth_hz: float | None
    denoiser: str | None = None
    codec: str | None = None


class Case(NamedTuple):
    """Where one pair lies: in a shard, or as two files."""

    key: str
    place: PairPlace | None = None
    noisy_url: str = ""
    clean_url: str = ""
    speaker: str | None = None


class LoadedPair(NamedTuple):
    """Waveforms ``(samples,)`` at 48 kHz, and how far up the clean one counts.

    ``degraded`` None is still to be denoised; ``noisy`` None is not stored.
    """

    degraded: Tensor | None
    clean: Tensor
    noisy: Tensor | None
    counted_hz: float
    labels: Labels


class Data(NamedTuple):
    """All pairs; whether the denoiser is still to run, and whether its input is at hand.

    ``denoisers`` are those that ran already, where that is known. ``facts`` is for the reader, ``version`` changes when any of the data does.
    """

    cases: Sequence[Case]
    denoise: bool
    noisy: bool
    facts: Mapping[str, object]
    version: str
    denoisers: tuple[str, ...] = ()


def open_data(url: str, split: str, speaker_pattern: str | None = None) -> Data:
    """Return the pairs of a manifest's split, or of a folder that holds ``noisy`` and ``clean``.

    Args:
        url: of the manifest or folder.
        split: of a manifest.
        speaker_pattern: a regular expression whose (group) in a folder's file names, as in
            ``A/B.wav``, is the speaker; None: the folder that a file lies in, if there is one.

    Raises:
        ConfigError: it is neither, or the folder's files are not in pairs.
        ShardError: the manifest is damaged, or has no such split.
    """
    if storage.is_folder(storage.join(url, "noisy")):
        return _open_folder(url, speaker_pattern)
    try:
        corpus = open_corpus(DataSource(url), split)
    except FileNotFoundError:
        raise ConfigError(
            f"{url}: expected a manifest, a folder that holds manifest.json or tars, or one that "
            "holds noisy and clean"
        ) from None
    places = list(PairList([corpus]))
    facts: dict[str, object] = {
        "data": url,
        "split": split,
        "data_sha256": corpus.manifest_sha256,
    }
    if corpus.denoisers:
        facts["denoisers"] = ", ".join(corpus.denoisers)
    return Data(
        [Case(place.entry.key, place) for place in places],
        denoise=False,
        noisy=any(holds_noisy(place.entry) for place in places),
        facts=facts,
        version=f"{corpus.manifest_sha256} {split}",
        denoisers=corpus.denoisers,
    )


def load(case: Case) -> LoadedPair:
    """Return a pair's waveforms.

    Raises:
        ShardError, AudioError, OSError: it cannot be read; the message names it.
    """
    return _load_files(case) if case.place is None else _load_place(case.place)


def noise_kind(path: str) -> str:
    """Return what noise a recording is of: the folder of its kind, or its name without a number."""
    if path.startswith(f"{BABBLE}-"):
        return BABBLE
    parts = PurePosixPath(path)
    if len(parts.parts) > 2 and not parts.is_absolute():
        return parts.parent.name
    return re.sub(r"[\d_.-]+$", "", parts.stem) or parts.stem


def _load_place(place: PairPlace) -> LoadedPair:
    pair = load_pair(place, torch.device("cpu"), noisy=True)
    bandwidth = place.entry.bandwidth_hz
    return LoadedPair(
        pair.degraded[0, 0],
        pair.clean[0, 0],
        None if pair.noisy is None else pair.noisy[0, 0],
        bandwidth,
        _labels(_meta(place), bandwidth),
    )


def _meta(place: PairPlace) -> dict[str, Any]:
    """Return the meta of a pair; foreign shards may hold little, or nothing."""
    if META_MEMBER not in place.entry.members:
        return {}
    (data,) = shards.read_members(place.url, place.entry, [META_MEMBER])
    meta = json.loads(bytes(data))
    return meta if isinstance(meta, dict) else {}


def _labels(meta: Mapping[str, Any], bandwidth_hz: float) -> Labels:
    """Return what of a pair's meta can be used; what others wrote under our names may be anything."""
    speaker, noises, denoiser, codec = (
        meta.get(key) for key in ("speaker", "noises", "denoiser", "codec")
    )
    snr = meta.get("snr_reached_db", meta.get("snr_db"))
    first = noises[0] if isinstance(noises, list) and noises else None
    path = first.get("path") if isinstance(first, dict) else None
    foreign = "denoiser_sha256" not in meta
    # All that tells a dry pair from one of which nothing is known.
    knows_room = "rir" in meta
    return Labels(
        speaker=speaker if isinstance(speaker, str) and speaker else None,
        snr_db=float(snr) if isinstance(snr, int | float) and math.isfinite(snr) else None,
        noise=noise_kind(path) if isinstance(path, str) else None,
        room=("reverberant" if meta["rir"] else "dry") if knows_room else None,
        bandwidth_hz=bandwidth_hz,
        denoiser=from_record(denoiser) if isinstance(denoiser, str) and denoiser else None,
        codec=codec if isinstance(codec, str) else None if codec or foreign else NO_CODEC,
    )


def _load_files(case: Case) -> LoadedPair:
    noisy, clean = (
        torch.from_numpy(audio.read_mono(url)) for url in (case.noisy_url, case.clean_url)
    )
    if len(noisy) != len(clean):
        raise AudioError(
            f"{case.noisy_url}: {len(noisy)} samples at 48 kHz, but {len(clean)} in "
            f"{case.clean_url}; expected equal lengths"
        )
    # Above half of its own rate a file holds nothing that could be lost.
    highest_hz = min(FULL_HZ, audio.info(case.clean_url).sample_rate / 2)
    snr = float(metrics.si_sdr(noisy, clean))
    labels = Labels(case.speaker, snr if math.isfinite(snr) else None, None, None, None)
    return LoadedPair(None, clean, noisy, highest_hz, labels)


def _open_folder(url: str, speaker_pattern: str | None) -> Data:
    sides = {side: storage.join(url, side) for side in ("noisy", "clean")}
    noisy, clean = (audio.find_below(folder) for folder in sides.values())
    if not noisy:
        raise ConfigError(f"{url}: no audio in noisy")
    if alone := sorted(noisy.keys() ^ clean.keys()):
        more = f" and {len(alone) - 1} more" if alone[1:] else ""
        raise ConfigError(f"{url}: in only one of noisy and clean: {alone[0]}{more}")
    cases = [
        Case(name, None, noisy[name], clean[name], _speaker_of(name, speaker_pattern))
        for name in sorted(noisy)
    ]
    if speaker_pattern and not any(case.speaker for case in cases):
        raise ConfigError(
            f"--speaker-pattern {speaker_pattern}: matches no name such as {cases[0].key}"
        )
    stamps = [sorted(storage.find_files(folder)) for folder in sides.values()]
    return Data(cases, denoise=True, noisy=True, facts={"data": url}, version=str(stamps))


def _speaker_of(name: str, pattern: str | None) -> str | None:
    if pattern is None:
        return PurePosixPath(name).parent.name or None
    match = re.search(pattern, name)
    return match[1] if match else None
