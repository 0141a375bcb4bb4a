"""What was left out and why, on one page, with a few pairs of each reason to listen to.

Refused pairs are stored nowhere. As a pair is a function of the plan, the few that the page plays
are made again when it is written.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from shard_tools.config import PrepConfig
from shard_tools.make.job import Job, shard_task
from shard_tools.make.manifest import MadeShard
from shard_tools.make.shard import Judged, judge_pairs
from shard_tools.plan.editions import Edition, count_clips
from shard_tools.plan.plan import Shard
from timbre import audio, storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.config import to_tree
from timbre.shards import Rejection

EXAMPLES = 3
# What is said of a pair of which there is nothing to play.
UNMIXED: Mapping[str, str] = {
    "silent_clean": "No speech in it, or too quiet in the recording: under quality.min_clean_db.",
    "silent_noise": "None of its noises makes a sound.",
}
STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 68em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: .6em 0 } td, th { padding: .15em .8em .15em 0; text-align: left }
th { font-weight: 600; border-bottom: 1px solid #ccc } td.n { text-align: right }
.pair { border-top: 1px solid #ddd; padding: .6em 0 } .side { display: inline-block; margin-right: 1em }
audio { width: 19em; height: 2em; display: block } small { color: #666 }
"""


class Refused(NamedTuple):
    """A refused pair and the shard that it was planned for."""

    shard: Shard
    pair: Rejection


def write_report(config: PrepConfig, edition: Edition, job: Job, made: Sequence[MadeShard]) -> str:
    """Publish the page on an edition's refused clips and pairs; return its URL."""
    refused: dict[str, list[Refused]] = {}
    for shard in made:
        for reason, pairs in shard.rejected.items():
            refused.setdefault(reason, []).extend(Refused(shard.shard, pair) for pair in pairs)
    chosen = {reason: _spread(found) for reason, found in refused.items()}
    parts = [
        f"<!doctype html><meta charset=utf-8><title>Left out</title><style>{STYLE}</style>",
        f"<h1>What edition {edition.record.edition} left out</h1>",
        "<h2>Clips</h2>",
        _table(("role", "used or why not", "clips"), _clip_rows(edition)),
        "<h2>Pairs</h2>",
        _table(
            ("why", "pairs"), [(reason, len(found)) for reason, found in sorted(refused.items())]
        ),
        "<h2>Thresholds</h2>",
        _table(("quality.", "value"), list(to_tree(config.quality).items())),
    ]
    for reason, examples in sorted(chosen.items()):
        parts.append(f"<h2>{html.escape(reason)}</h2>")
        parts += [_example(config, job, example) for example in examples]
    url = storage.join(config.output, f"left-out-{edition.record.edition:06d}.html")
    storage.publish(url, "\n".join(parts).encode())
    return url


def _spread(found: Sequence[Refused]) -> list[Refused]:
    """Return the first few, of different recordings as far as there are."""
    by_clip = {refused.pair.path: refused for refused in reversed(found)}
    others = [refused for refused in found if by_clip[refused.pair.path] is not refused]
    return [*reversed(by_clip.values()), *others][:EXAMPLES]


def _example(config: PrepConfig, job: Job, refused: Refused) -> str:
    task = shard_task(config, job, refused.shard)
    ((_, pair),) = judge_pairs(job.settings, task, [refused.pair.number])
    path, start, variant = html.escape(refused.pair.path), refused.pair.start, refused.pair.variant
    head = (
        f"<b>{path}</b> from {start / SAMPLE_RATE:.2f} s, variant {variant} "
        f"<small>{refused.shard[0]} shard {refused.shard[1]}</small>"
    )
    if isinstance(pair, str):
        return f"<div class=pair>{head}<br>{UNMIXED[pair]}</div>"
    recipe = pair.prepared.recipe
    mixed = (
        f"SNR {recipe.snr_db:g} dB, "
        f"{', '.join(html.escape(source.path) for source in pair.prepared.noises)}"
        + (
            ""
            if recipe.rir is None
            else f", in {html.escape(job.settings.rooms.names[recipe.rir])}"
        )
    )
    figures = ", ".join(f"{name} {value:.4g}" for name, value in pair.figures._asdict().items())
    return (
        f"<div class=pair>{head}<br>{mixed}<br>{_players(pair)}<br><small>{figures}</small></div>"
    )


def _players(pair: Judged) -> str:
    sides: Mapping[str, Wave] = {
        "clean": pair.clean,
        "noisy": pair.noisy,
        "degraded": pair.degraded,
    }
    return "".join(
        f"<span class=side>{name}<audio controls preload=none src={_inline(wave)}></audio></span>"
        for name, wave in sides.items()
    )


def _inline(wave: Wave) -> str:
    # LAME ends the whole process at a sample that is not finite.
    finite = np.clip(np.nan_to_num(wave, posinf=0.0, neginf=0.0), -1.0, 1.0)
    data = audio.encode_wave(finite, SAMPLE_RATE, "MP3", "MPEG_LAYER_III")
    return f"data:audio/mpeg;base64,{base64.b64encode(data).decode()}"


def _clip_rows(edition: Edition) -> list[tuple[str, str, int]]:
    return [
        (role, reason, count)
        for role, counts in count_clips([edition]).items()
        for reason, count in counts.items()
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}" for cell in head)]
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}" for cell in row))
    return f"<table>{''.join(lines)}</table>"
