"""One shard from its plan: read, mix, degrade, align, judge, write."""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from shard_tools import mix, quality, reverb
from shard_tools.align import estimate_offset
from shard_tools.bandwidth import bandwidth_hz
from shard_tools.bank import Bank
from shard_tools.degrade import DenoiserConfig, degrade
from shard_tools.mix import Mixture
from shard_tools.plan import Piece, Recipe
from shard_tools.quality import QualityConfig
from shard_tools.write import FinishedPair, write_shard
from timbre import audio, shards, storage
from timbre.audio import Wave
from timbre.errors import AudioError
from timbre.shards import AudioFormat, PairMeta, Source, Split

UNREADABLE = "unreadable"


class ShardJob(NamedTuple):
    """What is the same for every shard of a job. Lengths in samples."""

    folder: str
    audio_format: AudioFormat
    denoiser: DenoiserConfig
    denoiser_sha256: str
    quality: QualityConfig
    lead_in: int
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
    """A pair before the denoiser; its waveforms begin one lead-in before the piece."""

    piece: Piece
    recipe: Recipe
    mixture: Mixture
    noise_start: int
    bandwidth_hz: float


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
    for number, (pair, wave) in enumerate(zip(prepared, denoised, strict=True)):
        key = f"{task.split}-{task.number:06d}-{number:04d}"
        made = _finish(job, pair, wave, (key, task.seed))
        if isinstance(made, Rejected):
            rejected[made.reason].append(made.what)
        else:
            finished.append(made)
    path = storage.join(job.folder, shards.shard_path(task.split, task.number))
    write_shard(path, finished, rejected, job.audio_format)
    return rejected


def _prepare(job: ShardJob, piece: Piece, recipe: Recipe) -> Prepared | Rejected:
    try:
        clip = audio.read_mono(piece.clip.url)
    except (AudioError, FileNotFoundError) as error:
        return Rejected(UNREADABLE, str(error))
    lead_in = job.lead_in
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
    # Of the whole clip: a piece may happen to hold no consonant that reaches the top.
    level_gain = audio.gain(recipe.level_db - audio.active_level_db(clip))
    bandwidth = bandwidth_hz(clip * np.float32(level_gain))
    if mixture is None or bandwidth == 0:
        return Rejected("silent_clean", _what(piece))
    return Prepared(piece, recipe, mixture, noise_start, bandwidth)


def _finish(
    job: ShardJob, pair: Prepared, denoised: Wave, origin: tuple[str, tuple[int, ...]]
) -> FinishedPair | Rejected:
    """Return the pair without its lead-in, as it will be stored, or why it is refused."""
    body = slice(job.lead_in, None)
    clean, noisy, degraded = pair.mixture.clean[body], pair.mixture.noisy[body], denoised[body]
    alignment = estimate_offset(clean, degraded, job.max_offset)
    figures = quality.measure(clean, noisy, degraded, alignment)
    recipe = pair.recipe
    reverberant = recipe.rir is not None
    reason = quality.examine(figures, recipe.snr_db, job.quality, reverberant)
    if reason:
        return Rejected(reason, _what(pair.piece))
    key, seed = origin
    meta = PairMeta(
        schema=shards.SCHEMA,
        key=key,
        samples=len(clean),
        alignment_offset=alignment.offset,
        alignment_confidence=alignment.confidence,
        bandwidth_hz=pair.bandwidth_hz,
        snr_db=recipe.snr_db,
        snr_reached_db=pair.mixture.snr_db,
        gain_db=pair.mixture.gain_db,
        speaker=pair.piece.clip.speaker or "",
        clean=Source(pair.piece.clip.path, pair.piece.start, len(clean)),
        noises=(Source(job.noises.paths[recipe.noise], pair.noise_start, len(noisy)),),
        rir=job.rirs.paths[recipe.rir] if recipe.rir is not None else None,
        rt60_seconds=(
            reverb.decay_seconds(job.rirs.wave(recipe.rir)) if recipe.rir is not None else None
        ),
        denoiser=job.denoiser.name,
        denoiser_sha256=job.denoiser_sha256,
        seed=seed,
        quality=figures._asdict(),
    )
    return FinishedPair(meta, audio.to_int16(clean), audio.to_int16(degraded))


def _what(piece: Piece) -> str:
    return f"{piece.clip.path} from sample {piece.start}, variant {piece.variant}"


def _stretch(wave: Wave, start: int, samples: int) -> Wave:
    """Return ``samples`` from ``start``, with silence before the first and after the last."""
    before = max(-start, 0)
    inside = wave[max(start, 0) : max(start + samples, 0)]
    return np.pad(inside, (before, samples - before - len(inside)))
