"""One shard from its plan: read, mix, degrade, align, judge, write."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from shard_tools import mix, reverb
from shard_tools.bank import Bank
from shard_tools.degrade import DenoiserConfig, degrade
from shard_tools.mix import Mixture
from shard_tools.plan import Piece, Recipe
from shard_tools.quality import QualityConfig
from shard_tools.write import write_shard
from timbre import audio, shards
from timbre.audio import SAMPLE_RATE, Wave
from timbre.errors import AudioError
from timbre.shards import AudioFormat, Split

UNREADABLE = "unreadable"


class ShardJob(NamedTuple):
    """What is the same for every shard of a job. Lengths in samples."""

    folder: str
    audio_format: AudioFormat
    denoiser: DenoiserConfig
    quality: QualityConfig
    max_offset: int
    target_early: int
    noises: Bank
    rirs: Bank


class ShardTask(NamedTuple):
    """One shard: the pieces and recipes of its pairs, and the seed that drew them."""

    split: Split
    number: int
    pieces: tuple[Piece, ...]
    recipes: tuple[Recipe, ...]
    seed: tuple[int, ...]


class Rejected(NamedTuple):
    """A piece that gives no pair, and why."""

    reason: str
    what: str


class Prepared(NamedTuple):
    """A pair before the denoiser; its waveforms begin ``lead_in`` samples before the piece."""

    piece: Piece
    recipe: Recipe
    mixture: Mixture
    noise_start: int


def make_shard(job: ShardJob, task: ShardTask) -> Mapping[str, list[str]]:
    """Write one shard and its index; return the rejected pieces by reason.

    The bytes depend on the job and the task alone.
    """
    rejected: dict[str, list[str]] = defaultdict(list)
    prepared: list[Prepared] = []
    for piece, recipe in zip(task.pieces, task.recipes, strict=True):
        outcome = _prepare(job, piece, recipe)
        if isinstance(outcome, Rejected):
            rejected[outcome.reason].append(outcome.what)
        else:
            prepared.append(outcome)
    denoised = degrade([pair.mixture.noisy for pair in prepared], job.denoiser)
    finished = []
    for number, (pair, wave) in enumerate(zip(prepared, denoised.waves, strict=True)):
        key = f"{task.split}-{task.number:06d}-{number:04d}"
        made = _finish(job, pair, wave, PairOrigin(key, denoised.weights_sha256, task.seed))
        if isinstance(made, Rejected):
            rejected[made.reason].append(made.what)
        else:
            finished.append(made)
    path = shards.storage.join(job.folder, shards.shard_path(task.split, task.number))
    write_shard(path, finished, rejected, job.audio_format)
    return rejected


def _prepare(job: ShardJob, piece: Piece, recipe: Recipe) -> Prepared | Rejected:
    try:
        clip = audio.read_mono(piece.clip.url)
    except (AudioError, FileNotFoundError) as error:
        return Rejected(UNREADABLE, str(error))
    lead_in = int(job.denoiser.lead_in_seconds * SAMPLE_RATE)
    speech = _stretch(clip, piece.start - lead_in, lead_in + piece.samples)
    noise = job.noises.wave(recipe.noise)
    noise_start = int(recipe.noise_start * len(noise))
    heard, target = speech, speech
    if recipe.rir is not None:
        heard, target = reverb.reverberate(speech, job.rirs.wave(recipe.rir), job.target_early)
    mixture = mix.mix(
        heard,
        target,
        mix.loop(noise, noise_start, len(speech)),
        mix.Request(recipe.snr_db, recipe.level_db, lead_in),
    )
    if mixture is None:
        return Rejected("silent", f"{piece.clip.path} at {piece.start}")
    return Prepared(piece, recipe, mixture, noise_start)


def _stretch(wave: Wave, start: int, samples: int) -> Wave:
    """Return ``samples`` from ``start``, with silence before the first and after the last."""
    before = max(-start, 0)
    inside = wave[max(start, 0) : max(start + samples, 0)]
    return np.pad(inside, (before, samples - before - len(inside)))
