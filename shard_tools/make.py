"""One shard from its plan: read, mix, degrade, align, judge, write."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from shard_tools import mix, quality, reverb
from shard_tools.align import Alignment, estimate_offset
from shard_tools.bank import Bank
from shard_tools.catalogue import read_stretch
from shard_tools.degrade import DenoiserConfig, degrade
from shard_tools.mix import Layer, Mixture
from shard_tools.plan import Piece, Recipe
from shard_tools.quality import Figures, QualityConfig
from shard_tools.write import FinishedPair, write_shard
from timbre import audio, shards, storage
from timbre.audio import Wave
from timbre.shards import AudioFormat, PairMeta, Rejection, Source, Split

# A piece in which there is no speech at all, so that nothing can be mixed.
SILENT = "silent_clean"


class ShardJob(NamedTuple):
    """What is the same for every shard of an edition. Lengths in samples."""

    folder: str
    speech_root: str
    plan_sha256: str
    audio_format: AudioFormat
    denoiser: DenoiserConfig
    denoiser_sha256: str
    quality: QualityConfig
    lead_in: int
    max_offset: int
    target_early: int
    noises: Bank
    # Which recordings the babbles in the bank of noises are made of.
    voices: Mapping[int, tuple[str, ...]]
    rooms: Bank


class ShardTask(NamedTuple):
    """One shard: the pieces and recipes of its pairs, and the seed that drew them."""

    split: Split
    number: int
    pieces: tuple[Piece, ...]
    recipes: tuple[Recipe, ...]
    seed: tuple[int, ...]


class Prepared(NamedTuple):
    """A pair before the denoiser; its waveforms begin one lead-in before the piece."""

    piece: Piece
    recipe: Recipe
    mixture: Mixture
    noises: tuple[Source, ...]


class Judged(NamedTuple):
    """A pair after the denoiser, without its lead-in; ``reason`` is why it is refused, if it is."""

    prepared: Prepared
    clean: Wave
    noisy: Wave
    degraded: Wave
    alignment: Alignment
    figures: Figures
    reason: str | None


def make_shard(job: ShardJob, task: ShardTask) -> None:
    """Write one shard and its index, unless they are there. Their bytes depend on job and task alone.

    Raises:
        OSError: a clip cannot be fetched, or the shard cannot be written.
        ShardError: a clip is not what it was when it was scanned.
    """
    path = storage.join(job.folder, shards.shard_path(task.split, task.number))
    if storage.exists(shards.index_path(path)):
        return
    rejected: dict[str, list[Rejection]] = defaultdict(list)
    finished = []
    for number, pair in judge(job, task, range(len(task.pieces))):
        reason = SILENT if pair is None else pair.reason
        if pair is not None and reason is None:
            finished.append(_finish(job, task, number, pair))
        else:
            piece = task.pieces[number]
            refused = Rejection(number, piece.clip.path, piece.start, piece.variant)
            rejected[str(reason)].append(refused)
    write_shard(path, finished, rejected, job.plan_sha256, job.audio_format)


def judge(
    job: ShardJob, task: ShardTask, numbers: Sequence[int]
) -> Iterator[tuple[int, Judged | None]]:
    """Yield some of a shard's pairs with their numbers; None where there is nothing to mix."""
    prepared = [_prepare(job, task.pieces[i], task.recipes[i]) for i in numbers]
    noisy = [pair.mixture.noisy for pair in prepared if pair is not None]
    denoised = iter(degrade(noisy, job.denoiser))
    for number, pair in zip(numbers, prepared, strict=True):
        yield number, None if pair is None else _examine(job, pair, next(denoised))


def _prepare(job: ShardJob, piece: Piece, recipe: Recipe) -> Prepared | None:
    url = storage.join(job.speech_root, piece.clip.path)
    length = job.lead_in + piece.samples
    speech = read_stretch(url, piece.clip, piece.start - job.lead_in, length)
    heard, target = speech, speech
    if recipe.rir is not None:
        heard, target = reverb.reverberate(speech, job.rooms.wave(recipe.rir), job.target_early)
    layers = [
        Layer(wave, int(draw.start * len(wave)), draw.gain_db)
        for draw in recipe.noises
        for wave in [job.noises.wave(draw.number)]
    ]
    request = mix.Request(recipe.snr_db, recipe.level_db, job.lead_in)
    mixture = mix.mix(heard, target, mix.layer(layers, length), request)
    if mixture is None:
        return None
    sources = tuple(
        Source(job.noises.names[draw.number], layer.start, length)
        for draw, layer in zip(recipe.noises, layers, strict=True)
    )
    return Prepared(piece, recipe, mixture, sources)


def _examine(job: ShardJob, pair: Prepared, denoised: Wave) -> Judged:
    """Return the pair without its lead-in, aligned and judged."""
    body = slice(job.lead_in, None)
    clean, noisy, degraded = pair.mixture.clean[body], pair.mixture.noisy[body], denoised[body]
    alignment = estimate_offset(clean, degraded, job.max_offset)
    figures = quality.measure(clean, noisy, degraded, alignment)
    recipe = pair.recipe
    reason = quality.examine(figures, recipe.snr_db, job.quality, recipe.rir is not None)
    return Judged(pair, clean, noisy, degraded, alignment, figures, reason)


def _finish(job: ShardJob, task: ShardTask, number: int, pair: Judged) -> FinishedPair:
    piece, recipe = pair.prepared.piece, pair.prepared.recipe
    clip, mixture = piece.clip, pair.prepared.mixture
    room = None if recipe.rir is None else job.rooms.wave(recipe.rir)
    meta = PairMeta(
        schema=shards.SCHEMA,
        key=f"{task.split}-{task.number:06d}-{number:04d}",
        samples=len(pair.clean),
        alignment_offset=pair.alignment.offset,
        alignment_confidence=pair.alignment.confidence,
        bandwidth_hz=clip.bandwidth_hz,
        snr_db=recipe.snr_db,
        snr_reached_db=mixture.snr_db,
        gain_db=mixture.gain_db,
        speaker=clip.speaker or "",
        clean=Source(clip.path, piece.start, piece.samples, clip.sha256),
        noises=pair.prepared.noises,
        rir=None if recipe.rir is None else job.rooms.names[recipe.rir],
        rt60_seconds=None if room is None else reverb.decay_seconds(room),
        denoiser=job.denoiser.kind,
        denoiser_sha256=job.denoiser_sha256,
        seed=task.seed,
        quality=pair.figures._asdict(),
        voices=tuple(path for draw in recipe.noises for path in job.voices.get(draw.number, ())),
    )
    return FinishedPair(meta, audio.to_int16(pair.clean), audio.to_int16(pair.degraded))
