"""The page of what was left out and why, with a few pairs of each reason to listen to.

Refused pairs are stored nowhere. As a pair is a function of the plan, the few that the page plays
are made again when it is written.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from shard_tools.config import PrepConfig
from shard_tools.make.job import Job, shard_task
from shard_tools.make.manifest import MadeShard
from shard_tools.make.shard import JudgedPair, judge_pairs
from shard_tools.plan.editions import Edition, count_clips
from shard_tools.plan.plan import Shard
from timbre import audio, storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.config import to_tree
from timbre.pages import data_uri, render
from timbre.shards import Rejection

EXAMPLES = 3
# The text of a pair of which there is nothing to play.
NO_MIXTURE: Mapping[str, str] = {
    "silent_clean": "No speech in it, or too quiet in the recording: under quality.min_clean_db.",
    "silent_noise": "None of its noises makes a sound.",
}


class Refusal(NamedTuple):
    """A refused pair and the shard that it was planned for."""

    shard: Shard
    pair: Rejection


class RefusedPair(NamedTuple):
    """What the page shows of a refused pair; ``sides`` are audio as URIs, empty where there is none."""

    path: str
    start_seconds: float
    variant: int
    split: str
    number: int
    text: str
    sides: Mapping[str, str]
    figures: str


def write_report(
    config: PrepConfig, edition: Edition, job: Job, shards: Sequence[MadeShard]
) -> str:
    """Publish the page on an edition's refused clips and pairs; return its URL."""
    refusals: dict[str, list[Refusal]] = {}
    for shard in shards:
        for reason, pairs in shard.rejected.items():
            refusals.setdefault(reason, []).extend(Refusal(shard.shard, pair) for pair in pairs)
    values = {
        "edition": edition.record.edition,
        "clips": _clip_rows(edition),
        "counts": [(reason, len(pairs)) for reason, pairs in sorted(refusals.items())],
        "thresholds": list(to_tree(config.quality).items()),
        "reasons": {
            reason: [_example(config, job, pair) for pair in _pick(pairs)]
            for reason, pairs in sorted(refusals.items())
        },
    }
    url = storage.join(config.output, f"left-out-{edition.record.edition:06d}.html")
    storage.publish(url, render("shard_tools.make", "left_out.html.j2", values).encode())
    return url


def _pick(pairs: Sequence[Refusal]) -> list[Refusal]:
    """Return the first few, of different recordings as far as there are."""
    by_clip = {refusal.pair.path: refusal for refusal in reversed(pairs)}
    others = [refusal for refusal in pairs if by_clip[refusal.pair.path] is not refusal]
    return [*reversed(by_clip.values()), *others][:EXAMPLES]


def _example(config: PrepConfig, job: Job, refusal: Refusal) -> RefusedPair:
    task = shard_task(config, job, refusal.shard)
    ((_, pair),) = judge_pairs(job.settings, task, [refusal.pair.number])
    place = (
        refusal.pair.path,
        refusal.pair.start / SAMPLE_RATE,
        refusal.pair.variant,
        *refusal.shard,
    )
    if isinstance(pair, str):
        return RefusedPair(*place, NO_MIXTURE[pair], {}, "")
    figures = ", ".join(f"{name} {value:.4g}" for name, value in pair.figures._asdict().items())
    return RefusedPair(*place, _mixture_text(job, pair), _players(pair), figures)


def _mixture_text(job: Job, pair: JudgedPair) -> str:
    """Return how a pair was mixed: its ratio, its noises, its room."""
    recipe = pair.mixed_pair.recipe
    noises = ", ".join(source.path for source in pair.mixed_pair.noises)
    room = "" if recipe.rir is None else f", in {job.settings.rooms.names[recipe.rir]}"
    return f"SNR {recipe.snr_db:g} dB, {noises}{room}"


def _players(pair: JudgedPair) -> dict[str, str]:
    sides = {"clean": pair.clean, "noisy": pair.noisy, "degraded": pair.degraded}
    return {name: _inline(wave) for name, wave in sides.items()}


def _inline(wave: Wave) -> str:
    # LAME ends the whole process at a sample that is not finite.
    finite = np.clip(np.nan_to_num(wave, posinf=0.0, neginf=0.0), -1.0, 1.0)
    return data_uri(audio.encode_wave(finite, SAMPLE_RATE, "MP3", "MPEG_LAYER_III"), "audio/mpeg")


def _clip_rows(edition: Edition) -> list[tuple[str, str, int]]:
    return [
        (role, reason, count)
        for role, counts in count_clips([edition]).items()
        for reason, count in counts.items()
    ]
