"""What a job draws noises from: babbles of other speakers of the same side, rooms of both kinds."""

import base64
import json
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.degrade.degrade import DenoiserConfig, degrade
from shard_tools.make import shard as make
from shard_tools.make.job import BABBLES, Job, open_job, shard_task
from shard_tools.make.left_out import write_report
from shard_tools.make.manifest import read_made_shards
from shard_tools.make.shard import JudgedPair, judge_pairs, make_shard
from shard_tools.metas import read_metas
from shard_tools.mix import mixture as mix
from shard_tools.mix.bank import fill_bank
from shard_tools.mix.rooms import room_name, simulate_room
from shard_tools.plan.editions import load_editions
from shard_tools.prep.prep import prep
from shard_tools.scan.catalogue import Clip, read_stretch
from tests.shard_tools.conftest import SmallPrep
from timbre import audio
from timbre import config as configs
from timbre.audio import Wave
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError, ShardError
from timbre.shards import load_manifest


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PrepConfig:
    folder, rng = tmp_path_factory.mktemp("job"), np.random.default_rng(0)
    for number in range(16):
        talk = voice(1.2, np.random.default_rng(number))
        audio.write(folder / f"speech/s{number}/a.wav", talk, 48_000)
    for number in range(4):
        noise = rng.standard_normal(24_000).astype(np.float32) / 9
        audio.write(folder / f"noise/{number}.wav", noise, 48_000)
    tree = {
        "speech": f"{folder}/speech",
        "noise": f"{folder}/noise",
        "output": f"{folder}/out",
        "workers": 1,
        "save_segment_seconds": 1.0,
        "val_ratio": 0.4,
        "variants": 4,
        "denoiser": {"name": "none"},
        "clips": {"min_bandwidth_hz": 0.0},
        "mix": {"babble_share": 0.5},
        "reverb": {"share": 0.5, "simulated_rooms": 6},
    }
    result = configs.from_tree(PrepConfig, tree, "test")
    prep(result)
    return result


def test_babbles_are_of_other_speakers_of_the_same_side(config: PrepConfig) -> None:
    (edition,) = load_editions(config, "")
    job = open_job(config, edition)
    side = {clip.path: clip.split for clip in edition.usable_clips("speech")}
    for split, pools in job.pools.items():
        assert len(pools.babbles) >= BABBLES[split]
        for entry in pools.babbles:
            assert 3 <= len(entry.paths) <= 8
            assert {side[path] for path in entry.paths} == {split}
            assert job.settings.noises.names[entry.number].startswith(f"babble-{split}")
    babbles = 0
    for shard in job.plan.shards():
        task = shard_task(config, job, shard)
        for piece, recipe in zip(task.pieces, task.recipes, strict=True):
            voices = job.settings.voices.get(recipe.noises[0].number, ())
            babbles += bool(voices)
            assert piece.clip.path not in voices
    assert babbles > 10


def test_rooms_are_simulated_once_and_heard(config: PrepConfig) -> None:
    (edition,) = load_editions(config, "")
    job = open_job(config, edition)
    rooms = job.settings.rooms
    assert rooms.names == tuple(room_name(number) for number in range(6))
    expected = simulate_room(config.seed, 3)
    assert np.abs(rooms.wave(3) - expected / np.abs(expected).max()).max() < 1e-4
    sides = [set(job.pools[split].simulated_rooms) for split in ("train", "val")]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    url = f"{config.output}/manifest.json"
    manifest = load_manifest(url)
    metas = [meta for split in manifest.splits for meta in read_metas(url, manifest, split)]
    inside = [meta for meta in metas if meta.rir is not None]
    assert 0.3 < len(inside) / len(metas) < 0.7
    for meta in inside:
        assert str(meta.rir).startswith("simulated-")
        assert meta.rt60_seconds is not None and 0.05 < meta.rt60_seconds < 1


def test_a_job_that_is_opened_again_makes_the_same_pairs(config: PrepConfig) -> None:
    (edition,) = load_editions(config, "")
    one, other = open_job(config, edition), open_job(config, edition)
    shard = one.plan.shards()[0]
    for (_, a), (_, b) in zip(
        judge_pairs(one.settings, shard_task(config, one, shard), [5]),
        judge_pairs(other.settings, shard_task(config, other, shard), [5]),
        strict=True,
    ):
        assert isinstance(a, JudgedPair) and isinstance(b, JudgedPair)
        assert np.array_equal(a.noisy, b.noisy) and np.array_equal(a.clean, b.clean)


LONG = 12 * 48_000
QUIET = slice(4 * 48_000, 8 * 48_000)
HUM = slice(30 * 48_000, 31 * 48_000)


@pytest.fixture(scope="module")
def long_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two speakers at two rates, silent in the middle but for the room; a noise of 1 s in 60 s."""
    folder, rng = tmp_path_factory.mktemp("long"), np.random.default_rng(3)
    for number, rate in enumerate((48_000, 44_100)):
        talk = voice(12.0, np.random.default_rng(number))[:LONG]
        room = rng.standard_normal(LONG).astype(np.float32) * np.float32(audio.gain(-72.0))
        talk[QUIET] = room[QUIET]
        talk = audio.resample(talk, 48_000, rate)
        audio.write(folder / f"speech/s{number}/long.wav", talk, rate, "FLOAT")
    noise = np.zeros(60 * 48_000, np.float32)
    noise[HUM] = rng.standard_normal(48_000) / 9
    audio.write(folder / "noise/rare.wav", noise, 48_000)
    return folder


def long_config(sources: Path, output: Path) -> PrepConfig:
    tree = {
        "speech": f"{sources}/speech",
        "noise": f"{sources}/noise",
        "output": str(output),
        "workers": 1,
        "save_segment_seconds": 1.0,
        "val_ratio": 0.4,
        "variants": 2,
        "denoiser": {"name": "none"},
        "clips": {"min_bandwidth_hz": 0.0},
        "mix": {"babble_share": 0.0},
        "reverb": {"share": 0.0},
    }
    return configs.from_tree(PrepConfig, tree, "test")


@pytest.fixture(scope="module")
def long_job(
    long_sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PrepConfig, Job]:
    config = long_config(long_sources, tmp_path_factory.mktemp("out"))
    prep(config)
    (edition,) = load_editions(config, "")
    return config, open_job(config, edition)


def test_the_quiet_between_two_chapters_is_no_speech(long_job: tuple[PrepConfig, Job]) -> None:
    config, job = long_job
    for shard in job.plan.shards():
        task = shard_task(config, job, shard)
        refusals = []
        for number, pair in judge_pairs(job.settings, task, range(len(task.pieces))):
            piece = task.pieces[number]
            inside = QUIET.start <= piece.start and piece.start + piece.samples <= QUIET.stop
            assert (pair == "silent_clean") == inside
            refusals += [piece.start] * inside
        assert len(refusals) >= 4


def test_a_noise_that_hardly_sounds_is_heard_in_every_pair(
    long_job: tuple[PrepConfig, Job],
) -> None:
    config, job = long_job
    task = shard_task(config, job, job.plan.shards()[0])
    noise, lead_in = job.settings.noises.wave(0), job.settings.lead_in
    starts, positions = set(), set()
    for number, pair in judge_pairs(job.settings, task, range(len(task.pieces))):
        assert pair != "silent_noise"
        if isinstance(pair, JudgedPair):
            (source,) = pair.mixed_pair.noises
            stretch = mix.loop(noise, source.start, source.samples)[lead_in:]
            disturbance = pair.noisy - pair.clean
            factor = np.dot(disturbance, stretch) / np.dot(stretch, stretch)
            assert factor > 0 and np.abs(disturbance - factor * stretch).max() < 1e-5
            starts.add(int(task.recipes[number].noises[0].start * len(noise)))
            positions.add(source.start)
    assert len(starts - positions) > 5


def test_silence_for_noise_is_refused_as_such(long_job: tuple[PrepConfig, Job]) -> None:
    config, job = long_job
    task = shard_task(config, job, job.plan.shards()[0])
    silent = fill_bank(["none"], [96_000], lambda _: [np.zeros(96_000, np.float32)], "noise")
    results = dict(judge_pairs(job.settings._replace(noises=silent), task, range(len(task.pieces))))
    assert set(results.values()) == {"silent_noise", "silent_clean"}


def test_a_take_is_read_once_and_its_pieces_are_what_single_readings_give(
    long_job: tuple[PrepConfig, Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, job = long_job
    reads = []

    def read_and_count(url: str, clip: Clip, start: int, samples: int) -> Wave:
        reads.append(clip.path)
        return read_stretch(url, clip, start, samples)

    monkeypatch.setattr(make, "read_stretch", read_and_count)
    for shard in job.plan.shards():
        task = shard_task(config, job, shard)
        rate = task.pieces[0].clip.sample_rate
        reads.clear()
        together = dict(judge_pairs(job.settings, task, range(len(task.pieces))))
        assert reads == [task.pieces[0].clip.path]
        for number in range(0, len(task.pieces), 5):
            ((_, alone),) = judge_pairs(job.settings, task, [number])
            pair = together[number]
            if isinstance(alone, JudgedPair) and isinstance(pair, JudgedPair):
                error = np.abs(alone.noisy - pair.noisy).max()
                assert error == 0 if rate == 48_000 else error < 1e-6
            else:
                assert alone == pair
        numbers = [7, 3, 4, 20]  # neither in order nor all in one stretch
        for number, pair in judge_pairs(job.settings, task, numbers):
            if isinstance(pair, JudgedPair):
                other = together[number]
                assert isinstance(other, JudgedPair)
                assert np.abs(pair.noisy - other.noisy).max() < 1e-6


def test_the_page_plays_a_pair_whose_degraded_side_is_not_finite(
    long_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = configs.to_tree(long_config(long_sources, tmp_path / "out"))
    strict = {**tree, "quality": {**tree["quality"], "min_spectral_correlation": 0.999}}
    config = configs.from_tree(PrepConfig, strict, "test")
    with suppress(ShardError):  # hardly a pair passes
        prep(config)
    (edition,) = load_editions(config, "")

    def break_denoiser(noisy: Sequence[Wave], denoiser: DenoiserConfig) -> list[Wave]:
        degraded = [wave.copy() for wave in degrade(noisy, denoiser)]
        for wave in degraded:
            wave[-9_000:-8_996] = np.nan, np.inf, -np.inf, 1e9
        return degraded

    monkeypatch.setattr("shard_tools.degrade.shares.degrade", break_denoiser)
    shards = read_made_shards(config.output, edition)
    page = Path(write_report(config, edition, open_job(config, edition), shards)).read_text()
    assert page.count("<audio") >= 9 and "finite_share 0.9" in page
    for player in page.split("base64,")[1:]:
        wave, _ = audio.decode_bytes(base64.b64decode(player.partition('"')[0]), "example")
        assert np.isfinite(wave).all() and wave.shape[1] >= 48_000
    assert page.count("too quiet in the recording") == 3


def test_a_worker_with_another_denoiser_than_the_plans_is_refused(config: PrepConfig) -> None:
    (edition,) = load_editions(config, "")
    job = open_job(config, edition)
    task = shard_task(config, job, job.plan.shards()[0])
    with pytest.raises(ConfigError, match="weights on this machine have SHA-256 none, the plan"):
        make_shard(job.settings._replace(denoiser_sha256="ab" * 32), task)


def test_a_worker_makes_shards_without_reading_a_noise_or_a_room_again(
    small_prep: SmallPrep,
) -> None:
    config, job = small_prep.config, small_prep.job
    copy = pickle.loads(pickle.dumps(job.settings))
    for shard in job.plan.shards():
        make_shard(copy, shard_task(config, job, shard))
    rooms = [
        json.loads(data)["rir"]
        for path in (small_prep.sources / "out").rglob("*.tar")
        for name, data in members(path)
        if name.endswith(".json")
    ]
    assert len(rooms) > 8 and all(rooms)


def members(tar: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(tar) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            yield member.name, file.read()
