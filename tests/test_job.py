"""What a job draws noises from: babbles of other speakers of the same side, rooms of both kinds."""

import numpy as np
import pytest

from shard_tools.editions import load_editions
from shard_tools.job import BABBLES, open_job, shard_task
from shard_tools.make import judge
from shard_tools.metas import read_metas
from shard_tools.prep import prep
from shard_tools.prep_config import PrepConfig
from shard_tools.rooms import room_name, simulate_room
from timbre import audio
from timbre import config as configs
from timbre.shards import load_manifest
from timbre.synthetic_voice import voice


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
    made = configs.from_tree(PrepConfig, tree, "test")
    prep(made)
    return made


def test_babbles_are_of_other_speakers_of_the_same_side(config: PrepConfig) -> None:
    (edition,) = load_editions(config, "")
    job = open_job(config, edition)
    side = {clip.path: clip.split for clip in edition.used("speech")}
    for split, pools in job.pools.items():
        assert len(pools.babbles) >= BABBLES[split]
        for entry in pools.babbles:
            assert 3 <= len(entry.paths) <= 8
            assert {side[path] for path in entry.paths} == {split}
            assert job.shard_job.noises.names[entry.number].startswith(f"babble-{split}")
    babbled = 0
    for shard in job.plan.shards():
        task = shard_task(config, job, shard)
        for piece, recipe in zip(task.pieces, task.recipes, strict=True):
            voices = job.shard_job.voices.get(recipe.noises[0].number, ())
            babbled += bool(voices)
            assert piece.clip.path not in voices
    assert babbled > 10


def test_rooms_are_simulated_once_and_heard(config: PrepConfig) -> None:
    (edition,) = load_editions(config, "")
    job = open_job(config, edition)
    rooms = job.shard_job.rooms
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
        judge(one.shard_job, shard_task(config, one, shard), [5]),
        judge(other.shard_job, shard_task(config, other, shard), [5]),
        strict=True,
    ):
        assert a is not None and b is not None
        assert np.array_equal(a.noisy, b.noisy) and np.array_equal(a.clean, b.clean)
