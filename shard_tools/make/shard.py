"""One shard from its plan: read, mix, degrade, align, judge, write."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from shard_tools.degrade.degrade import DenoiserConfig, weights_hash
from shard_tools.degrade.shares import degrade_by, hashes_of, joint_hash
from shard_tools.judge import quality
from shard_tools.judge.quality import PairQuality, QualityConfig, Reason
from shard_tools.make.sides import noise_side, speech_sides
from shard_tools.make.tar import FinishedPair, write_shard
from shard_tools.mix import mixture as mix
from shard_tools.mix import reverb
from shard_tools.mix.bank import Bank
from shard_tools.mix.codec import CODECS, fingerprint, through_codec
from shard_tools.mix.colour import Colour, colour_wave
from shard_tools.mix.mixture import Mixture
from shard_tools.plan.plan import Piece
from shard_tools.plan.recipes import Recipe
from shard_tools.plan.variety import describe
from shard_tools.scan.catalogue import read_stretch
from timbre import audio, shards, storage
from timbre.audio import SAMPLE_RATE, SILENCE_DB, Wave
from timbre.audio.align import Alignment, estimate_offset
from timbre.errors import ConfigError, ShardError
from timbre.shards import AudioFormat, PairMeta, Rejection, ShardIndex, Source, Split

FULL_BAND_HZ = SAMPLE_RATE / 2


class ShardSettings(NamedTuple):
    """What is the same for every shard of an edition. Lengths in samples."""

    folder: str
    speech_root: str
    plan_sha256: str
    audio_format: AudioFormat
    store_noisy: bool
    # By their names in plans and shards; the hash is of all of them.
    denoisers: Mapping[str, DenoiserConfig]
    denoiser_sha256: str
    # Those that pairs may go through, and what they make of a probe.
    codecs: tuple[str, ...]
    codecs_sha256: str
    quality: QualityConfig
    lead_in: int
    max_offset: int
    target_early: int
    noises: Bank
    # Which recordings the babbles in the bank of noises are made of.
    voices: Mapping[int, tuple[str, ...]]
    rooms: Bank

    def denoiser_of(self, recipe: Recipe) -> str:
        """Return the denoiser that a pair goes through."""
        return recipe.denoiser or next(iter(self.denoisers))


class ShardTask(NamedTuple):
    """One shard: the pieces and recipes of its pairs, and the seed that drew them."""

    split: Split
    number: int
    pieces: tuple[Piece, ...]
    recipes: tuple[Recipe, ...]
    seed: tuple[int, ...]


class MixedPair(NamedTuple):
    """A pair before the denoiser; its waveforms begin one lead-in before the piece."""

    piece: Piece
    recipe: Recipe
    mixture: Mixture
    noises: tuple[Source, ...]


class JudgedPair(NamedTuple):
    """A pair after the denoiser, without its lead-in; ``reason`` is why it is refused, if it is."""

    mixed_pair: MixedPair
    clean: Wave
    noisy: Wave
    degraded: Wave
    alignment: Alignment
    figures: PairQuality
    reason: Reason | None


def make_shard(settings: ShardSettings, task: ShardTask) -> None:
    """Write one shard and its index, unless they are there and whole. Their bytes depend on the settings and the task alone.

    Raises:
        OSError: a clip cannot be fetched, or the shard cannot be written.
        ShardError: a clip is not what it was when it was scanned.
    """
    _check_denoisers(settings)
    _check_codecs(settings)
    path = storage.join(settings.folder, shards.shard_path(task.split, task.number))
    if is_finished(path):
        return
    refusals: dict[str, list[Rejection]] = defaultdict(list)
    finished_pairs = []
    for number, pair in judge_pairs(settings, task, range(len(task.pieces))):
        if isinstance(pair, JudgedPair) and pair.reason is None:
            finished_pairs.append(_finish(settings, task, number, pair))
        else:
            piece = task.pieces[number]
            refusal = Rejection(number, piece.clip.path, piece.start, piece.variant)
            refusals[str(pair.reason if isinstance(pair, JudgedPair) else pair)].append(refusal)
    write_shard(path, finished_pairs, refusals, settings.plan_sha256, settings.audio_format)


def judge_pairs(
    settings: ShardSettings, task: ShardTask, numbers: Sequence[int]
) -> Iterator[tuple[int, JudgedPair | Reason]]:
    """Yield some of a shard's pairs with their numbers; the reason where there is nothing to mix.

    A pair is the same whichever others are asked for, but for rounding.
    """
    speeches = _read_speech(settings, [task.pieces[number] for number in numbers])
    mixed_pairs = [
        _prepare(settings, task.pieces[number], task.recipes[number], speech)
        for number, speech in zip(numbers, speeches, strict=True)
    ]
    usable = [pair for pair in mixed_pairs if isinstance(pair, MixedPair)]
    names = [settings.denoiser_of(pair.recipe) for pair in usable]
    noisy = [pair.mixture.noisy for pair in usable]
    denoised = iter(degrade_by(noisy, names, settings.denoisers))
    for number, pair in zip(numbers, mixed_pairs, strict=True):
        yield (
            number,
            _judge(settings, pair, next(denoised)) if isinstance(pair, MixedPair) else pair,
        )


def is_finished(path: str) -> bool:
    """Return whether a shard's index is there, and its tar with the length that the index says."""
    url = shards.index_path(path)
    try:
        index = shards.from_json(ShardIndex, storage.read(url), url)
        return storage.size(path) == index.tar_bytes
    except (FileNotFoundError, ShardError):
        return False


def _check_denoisers(settings: ShardSettings) -> None:
    """Refuse weights that lie on this machine and are not those of the plan."""
    sha256 = joint_hash(hashes_of(settings.denoisers))
    if (planned_sha256 := settings.denoiser_sha256) != sha256:
        raise ConfigError(
            f"denoiser: the weights on this machine have SHA-256 {sha256[:12] or 'none'}, the plan was "
            f"made with {planned_sha256[:12] or 'none'}"
        )


def _check_codecs(settings: ShardSettings) -> None:
    """Refuse codecs that are not those of the plan."""
    if settings.codecs and fingerprint(settings.codecs) != settings.codecs_sha256:
        raise ConfigError(
            "variety.telephone_codecs: ffmpeg on this machine codes otherwise than where the plan was "
            "made; expected the same version, and the same kind of machine"
        )


def _read_speech(settings: ShardSettings, pieces: Sequence[Piece]) -> Iterator[Wave]:
    """Yield the speech of each piece, after its lead-in. Neighbours in a clip are read together."""
    for group in _neighbours(pieces):
        clip, first = group[0].clip, group[0].start - settings.lead_in
        stop = max(piece.start + piece.samples for piece in group)
        url = storage.join(settings.speech_root, clip.path)
        stretch = read_stretch(url, clip, first, stop - first)
        for piece in group:
            begin = piece.start - settings.lead_in - first
            yield stretch[begin : begin + settings.lead_in + piece.samples]


def _neighbours(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Yield successive pieces of one clip that leave nothing out between them."""
    group: list[Piece] = []
    for piece in pieces:
        last = group[-1] if group else piece
        adjoins = last.start <= piece.start <= last.start + last.samples
        if group and not (adjoins and piece.clip == last.clip):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _prepare(
    settings: ShardSettings, piece: Piece, recipe: Recipe, speech: Wave
) -> MixedPair | Reason:
    # Judged as it was recorded: mixed, any noise of a room is as loud as speech.
    level_db = audio.active_level_db(speech[settings.lead_in :])
    if level_db <= max(settings.quality.min_clean_db, SILENCE_DB):
        return "silent_clean"
    room = None if recipe.rir is None else settings.rooms.wave(recipe.rir)
    voice, target = speech_sides(speech, recipe, room, settings.target_early, settings.lead_in)
    noise = noise_side(settings.noises, recipe, len(speech), settings.lead_in)
    request = mix.Request(recipe.snr_db, recipe.level_db, settings.lead_in)
    hum = noise.wave
    if recipe.codec is not None:
        band = Colour(low_pass_hz=CODECS[recipe.codec].band_hz)
        voice, target, hum = (colour_wave(side, band) for side in (voice, target, hum))
    mixture = mix.mix(voice, target, hum, request)
    if mixture is None:
        return "silent_noise"
    if recipe.codec is not None:
        mixture = mixture._replace(noisy=through_codec(mixture.noisy, recipe.codec))
    return MixedPair(piece, recipe, mixture, noise.sources)


def _judge(settings: ShardSettings, pair: MixedPair, denoised: Wave) -> JudgedPair:
    """Return the pair without its lead-in, aligned and judged."""
    body = slice(settings.lead_in, None)
    clean, noisy, degraded = pair.mixture.clean[body], pair.mixture.noisy[body], denoised[body]
    alignment = estimate_offset(clean, degraded, settings.max_offset)
    figures = quality.measure_pair(clean, noisy, degraded, alignment)
    recipe = pair.recipe
    reason = quality.reason_to_refuse(
        figures, recipe.snr_db, settings.quality, _has_more_noise(recipe)
    )
    return JudgedPair(pair, clean, noisy, degraded, alignment, figures, reason)


def _has_more_noise(recipe: Recipe) -> bool:
    """Whether the noisy side has more beside its target than the noise: a room, hiss, a codec's."""
    speech = recipe.variety.speech
    background = speech.pause_db is not None and not speech.quiet_input
    beside = (recipe.rir, recipe.variety.hiss, recipe.codec)
    return background or any(part is not None for part in beside)


def _finish(
    settings: ShardSettings, task: ShardTask, number: int, pair: JudgedPair
) -> FinishedPair:
    piece, recipe = pair.mixed_pair.piece, pair.mixed_pair.recipe
    clip, mixture = piece.clip, pair.mixed_pair.mixture
    room = None if recipe.rir is None else settings.rooms.wave(recipe.rir)
    denoiser = settings.denoiser_of(recipe)
    meta = PairMeta(
        schema=shards.SCHEMA,
        key=f"{task.split}-{task.number:06d}-{number:04d}",
        samples=len(pair.clean),
        alignment_offset=pair.alignment.offset,
        alignment_confidence=pair.alignment.confidence,
        bandwidth_hz=min(
            clip.bandwidth_hz,
            recipe.variety.speech.colour.low_pass_hz or FULL_BAND_HZ,
            CODECS[recipe.codec].band_hz if recipe.codec else FULL_BAND_HZ,
        ),
        snr_db=recipe.snr_db,
        snr_reached_db=mixture.snr_db,
        gain_db=mixture.gain_db,
        speaker=clip.speaker or "",
        clean=Source(clip.path, piece.start, piece.samples, clip.sha256),
        noises=pair.mixed_pair.noises,
        rir=None if recipe.rir is None else settings.rooms.names[recipe.rir],
        rt60_seconds=None if room is None else reverb.decay_seconds(room),
        denoiser=denoiser,
        denoiser_sha256=weights_hash(settings.denoisers[denoiser]),
        seed=task.seed,
        quality=pair.figures._asdict(),
        variety=describe(recipe.variety),
        codec=recipe.codec or "",
        voices=tuple(
            path for draw in recipe.noises for path in settings.voices.get(draw.number, ())
        ),
    )
    noisy = audio.to_int16(pair.noisy) if settings.store_noisy else None
    return FinishedPair(meta, audio.to_int16(pair.clean), audio.to_int16(pair.degraded), noisy)
