"""What an edition's workers need: its plan, the noises and rooms in memory, and each shard's task."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from shard_tools.config import PrepConfig
from shard_tools.make.shard import ShardSettings, ShardTask
from shard_tools.mix.babble import Babble, draw_babbles, make_babble
from shard_tools.mix.bank import Bank, fill_bank
from shard_tools.mix.rooms import room_name, simulate_room
from shard_tools.plan import plan as plans
from shard_tools.plan.editions import Edition
from shard_tools.plan.plan import SPLITS, Plan, Shard
from shard_tools.plan.recipes import BabbleEntry, Pools, RoomShares, Settings, draw_recipes
from shard_tools.scan.catalogue import Clip, read_stretch
from shard_tools.scan.sources import open_source
from timbre import storage
from timbre.audio import SAMPLE_RATE, Wave
from timbre.shards import Split

BABBLES: dict[Split, int] = {"train": 32, "val": 8}
BABBLE_SECONDS = 20.0
# A longer noise is read in blocks.
BLOCK_SECONDS = 120.0


class Job(NamedTuple):
    """An edition ready to be made."""

    plan: Plan
    pools: dict[Split, Pools]
    settings: ShardSettings


def open_job(config: PrepConfig, edition: Edition) -> Job:
    """Decode the noises and rooms of an edition and return its job.

    Raises:
        ConfigError: there is no memory for the noises, or no package that simulates rooms.
        FileNotFoundError, ShardError: a clip is not what it was when it was scanned.
    """
    record, speech = edition.record, edition.usable_clips("speech")
    speech_root = open_source(config.speech, "speech").root
    babbles = {split: _babbles(speech, split, config) for split in SPLITS}
    noises = _noise_bank(config, edition, [*babbles["train"], *babbles["val"]], speech_root)
    rooms = _room_bank(config, edition)
    pools = _pools(config, edition, babbles)
    settings = ShardSettings(
        folder=config.output,
        speech_root=speech_root,
        plan_sha256=edition.sha256,
        audio_format=config.audio_format,
        store_noisy=config.store_noisy,
        denoisers=config.each_denoiser,
        denoiser_sha256=record.denoiser_sha256,
        codecs=config.codecs,
        codecs_sha256=record.settings.get("codecs_sha256", ""),
        quality=config.quality,
        lead_in=round(config.denoiser.lead_in_seconds * SAMPLE_RATE),
        max_offset=round(config.max_offset_seconds * SAMPLE_RATE),
        target_early=round(config.reverb.target_early_seconds * SAMPLE_RATE),
        noises=noises,
        voices={entry.number: entry.paths for split in SPLITS for entry in pools[split].babbles},
        rooms=rooms,
    )
    plan = plans.make_plan(speech, plans.plan_size(config), record.edition, record.first_shard)
    return Job(plan, pools, settings)


def shard_task(config: PrepConfig, job: Job, shard: Shard) -> ShardTask:
    """Return what a worker needs to know to make one shard."""
    shares = RoomShares(config.reverb.share, config.reverb.simulated_share)
    drawn_by = Settings(config.mix, shares, config.variety, config.target, config.denoisers)
    return ShardTask(
        *shard,
        job.plan.shard(*shard),
        tuple(draw_recipes(job.plan, shard, job.pools[shard[0]], drawn_by)),
        plans.shard_seed(job.plan, shard),
    )


class _Voices(NamedTuple):
    """A babble under its name, and the clips that it has by position."""

    name: str
    babble: Babble
    clips: Sequence[Clip]

    def owners(self) -> frozenset[str]:
        """Return whose voices it has."""
        return frozenset(self.clips[voice.clip].owner for voice in self.babble.voices)

    def paths(self) -> tuple[str, ...]:
        """Return the recordings that it is made of."""
        return tuple(self.clips[voice.clip].path for voice in self.babble.voices)


def _babbles(speech: Sequence[Clip], split: Split, config: PrepConfig) -> list[_Voices]:
    """Return the babbles of a split's speakers.

    Among few speakers each babble leaves out one in turn, so that everybody can be heard in one that
    is of others.
    """
    clips = [clip for clip in speech if clip.split == split]
    owners = sorted({clip.owner for clip in clips})
    if config.mix.babble_share == 0:
        return []
    few = len(owners) <= BABBLES[split]
    samples = round(BABBLE_SECONDS * SAMPLE_RATE)
    voices: list[_Voices] = []
    for number in range(len(owners) if few else 1):
        others = [clip for clip in clips if clip.owner != owners[number]] if few else clips
        draws = draw_babbles(
            [clip.owner for clip in others],
            -(-BABBLES[split] // len(owners)) if few else BABBLES[split],
            (config.seed, SPLITS.index(split), number),
            samples,
        )
        voices += [
            _Voices(f"babble-{split}-{len(voices) + i:04d}", babble, others)
            for i, babble in enumerate(draws)
        ]
    return voices


def _noise_bank(
    config: PrepConfig, edition: Edition, babbles: Sequence[_Voices], speech_root: str
) -> Bank:
    clips = edition.usable_clips("noise")
    root = open_source(config.noise, "noise").root
    longest = round(BABBLE_SECONDS * SAMPLE_RATE)

    def read(number: int) -> Iterable[Wave]:
        if number < len(clips):
            return _blocks(root, clips[number])
        voices = babbles[number - len(clips)]

        def talk(position: int) -> Wave:
            clip = voices.clips[position]
            length = min(clip.speech_stop - clip.speech_start, longest)
            url = storage.join(speech_root, clip.path)
            return read_stretch(url, clip, clip.speech_start, length)

        return [make_babble(voices.babble, talk)]

    return fill_bank(
        [*(clip.path for clip in clips), *(voices.name for voices in babbles)],
        [*(clip.samples for clip in clips), *(voices.babble.samples for voices in babbles)],
        read,
        "noise",
    )


def _room_bank(config: PrepConfig, edition: Edition) -> Bank:
    clips = edition.usable_clips("rir")
    root = open_source(config.rir, "rir").root if config.rir else ""
    count = _simulated_rooms(config)
    rooms = [simulate_room(config.seed, number) for number in range(count)]

    def read(number: int) -> Iterable[Wave]:
        if number < len(clips):
            return _blocks(root, clips[number])
        return [rooms[number - len(clips)]]

    return fill_bank(
        [*(clip.path for clip in clips), *(room_name(number) for number in range(count))],
        [*(clip.samples for clip in clips), *(len(wave) for wave in rooms)],
        read,
        "rir",
    )


def _pools(
    config: PrepConfig, edition: Edition, babbles: dict[Split, list[_Voices]]
) -> dict[Split, Pools]:
    noises, rirs = edition.usable_clips("noise"), edition.usable_clips("rir")
    count = _simulated_rooms(config)
    rooms = plans.split_pool([room_name(number) for number in range(count)], config.val_ratio)
    first = len(noises)
    pools = {}
    for split in SPLITS:
        entries = tuple(
            BabbleEntry(
                first + i,
                voices.owners(),
                voices.paths(),
            )
            for i, voices in enumerate(babbles[split])
        )
        first += len(entries)
        pools[split] = Pools(
            noises=_of_split(noises, split),
            babbles=entries,
            measured_rooms=_of_split(rirs, split),
            simulated_rooms=tuple(len(rirs) + number for number in rooms[split]),
        )
    return pools


def _simulated_rooms(config: PrepConfig) -> int:
    """Return how many rooms are to be simulated; none where no pair would be in one."""
    return config.reverb.simulated_rooms if config.reverb.share else 0


def _of_split(clips: Sequence[Clip], split: Split) -> tuple[int, ...]:
    """Return the positions of the clips that a split draws from: its own, or one that has no side."""
    return tuple(i for i, clip in enumerate(clips) if clip.split in (None, split))


def _blocks(root: str, clip: Clip) -> Iterator[Wave]:
    """Yield a clip in blocks, as :func:`read_stretch` reads them; at least one."""
    size = round(BLOCK_SECONDS * SAMPLE_RATE)
    for start in range(0, max(clip.samples, 1), size):
        url = storage.join(root, clip.path)
        yield read_stretch(url, clip, start, min(size, clip.samples - start))
