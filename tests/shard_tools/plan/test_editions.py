"""A dataset grows by editions: a later one adds shards and touches none of the old ones."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.executors.share import Share
from shard_tools.make import job
from shard_tools.metas import read_metas
from shard_tools.plan import editions
from shard_tools.plan.editions import load_editions
from shard_tools.prep.prep import prep
from shard_tools.scan import parts
from shard_tools.verify.manifest import verify
from tests.help.plain_prep import make_manifest, plain_config
from timbre import audio, shards
from timbre import config as configs
from timbre.errors import ConfigError, ShardError
from timbre.shards import Manifest, load_manifest

RNG = np.random.default_rng(0)
ENVELOPE = np.repeat(RNG.uniform(0, 0.2, 25), 960).astype(np.float32)


def add_clips(folder: Path, speaker: str, count: int) -> None:
    for number in range(count):
        wave = ENVELOPE * RNG.standard_normal(24_000).astype(np.float32)
        audio.write(folder / speaker / f"{number:02d}.wav", wave, 48_000)


@pytest.fixture
def config(tmp_path: Path) -> PrepConfig:
    for speaker in range(10):
        add_clips(tmp_path / "speech", f"s{speaker}", 5)
    for number in range(6):
        audio.write(
            tmp_path / f"noise/{number}.wav",
            RNG.standard_normal(48_000).astype(np.float32) / 8,
            48_000,
        )
    return plain_config(str(tmp_path), shard_pairs=8, val_ratio=0.2)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "parts" not in path.parts
    }


def count_pairs(manifest: Manifest) -> int:
    listed_pairs = sum(shard.pairs for split in manifest.splits.values() for shard in split)
    return listed_pairs + sum(manifest.rejected.values())


def test_more_clips_add_shards_and_a_version_and_leave_the_rest(
    config: PrepConfig, tmp_path: Path
) -> None:
    first = make_manifest(config)
    before = contents(tmp_path / "out")
    assert first.version == 1 and count_pairs(first) == 50
    add_clips(tmp_path / "speech", "s3", 8)  # more of somebody known
    shutil.move(tmp_path / "speech/s3/07.wav", tmp_path / "speech/s3/70.wav")
    add_clips(tmp_path / "speech", "new", 6)
    second = make_manifest(config)
    after = contents(tmp_path / "out")
    changes = {name for name, data in before.items() if after[name] != data}
    assert changes == {"manifest.json"}
    assert second.version == 2
    assert after["manifest.json"] == after["manifest-000002.json"]
    assert before["manifest.json"] == after["manifest-000001.json"]
    assert count_pairs(second) == 50 + 8 + 6
    assert second.clips["speech"] == {"used": 64}
    for split in ("train", "val"):
        old_count = len(first.splits[split])
        assert second.splits[split][:old_count] == first.splits[split]
    assert verify(f"{config.output}/manifest.json") == []


def test_nobody_changes_sides_when_clips_are_added(config: PrepConfig, tmp_path: Path) -> None:
    make_manifest(config)
    for speaker in ("a", "b", "c", "s0", "s5"):
        add_clips(tmp_path / "speech", speaker, 9)
    manifest = make_manifest(config)
    side: dict[str, str] = {}
    for split in ("train", "val"):
        for meta in read_metas(f"{config.output}/manifest.json", manifest, split):
            assert side.setdefault(meta.speaker, split) == split
    assert len(side) == 13


def test_nothing_new_makes_no_edition(
    config: PrepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_manifest(config)
    before = contents(tmp_path / "out")
    shutil.copy(tmp_path / "speech/s1/00.wav", tmp_path / "speech/s1/copy.wav")
    (tmp_path / "speech/s1/broken.wav").write_bytes(b"x")
    capsys.readouterr()
    assert make_manifest(config) == first
    assert contents(tmp_path / "out") == before
    output = capsys.readouterr().out
    assert "broken.wav" in output and "no new clips" in output


def test_a_source_elsewhere_is_added_too(config: PrepConfig, tmp_path: Path) -> None:
    make_manifest(config)
    add_clips(tmp_path / "other", "x", 9)
    tree = {**configs.to_tree(config), "speech": f"{tmp_path}/other"}
    other = configs.from_tree(PrepConfig, tree, "test")
    assert count_pairs(make_manifest(other)) == 59
    assert verify(f"{config.output}/manifest.json") == []


def test_an_unfinished_edition_is_finished_as_it_was_planned(
    config: PrepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_manifest(config)
    whole = contents(tmp_path / "out")
    for name in ("train/shard-000002.tar", "train/shard-000002.index", "manifest-000001.json"):
        (tmp_path / "out" / name).unlink()
    add_clips(tmp_path / "speech", "late", 4)
    assert count_pairs(make_manifest(config)) == 50  # what is new waits for its own edition
    assert contents(tmp_path / "out") == whole
    assert count_pairs(make_manifest(config)) == 54


def test_a_finished_plan_is_not_scanned_again(
    config: PrepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_manifest(config)
    (tmp_path / "out/train/shard-000001.index").unlink()

    def forbidden(*_: object) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr(parts, "measure", forbidden)
    monkeypatch.setattr(editions, "scan", forbidden)
    assert count_pairs(make_manifest(config)) == 50


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 3, "seed was 0, is now 3"),
        ("mix", {"snr_db_low": -5.0}, r"mix\.snr_db_low was 0\.0, is now -5\.0"),
        ("denoiser", {"name": "deepfilternet3"}, r"denoiser\.name was none"),
    ],
)
def test_another_config_is_refused_by_its_keys(
    config: PrepConfig, key: str, value: object, message: str
) -> None:
    make_manifest(config)
    other = configs.from_tree(PrepConfig, {**configs.to_tree(config), key: value}, "test")
    with pytest.raises(ConfigError, match=message):
        prep(other)


def test_data_may_move_between_runs(config: PrepConfig, tmp_path: Path) -> None:
    first = make_manifest(config)
    for name in ("speech", "noise", "out"):
        shutil.move(tmp_path / name, tmp_path / f"moved-{name}")
    overrides = {name: f"{tmp_path}/moved-{name}" for name in ("speech", "noise")}
    tree = {**configs.to_tree(config), **overrides, "output": f"{tmp_path}/moved-out", "workers": 2}
    shard = tmp_path / "moved-out/train/shard-000000.tar"
    before = shard.read_bytes()
    shard.unlink()
    shard.with_suffix(".index").unlink()
    again = make_manifest(configs.from_tree(PrepConfig, tree, "test"))
    assert shard.read_bytes() == before
    assert again.splits == first.splits


def test_shares_in_any_order_make_the_same_dataset(config: PrepConfig, tmp_path: Path) -> None:
    whole = make_manifest(config)
    out = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    results = [prep(config, "array", Share(index, 3)) for index in (2, 0, 1)]
    assert results[:2] == [None, None] and results[2] == whole
    assert contents(tmp_path / "out") == out


def test_a_single_speaker_is_split_by_recording_now_and_later(
    config: PrepConfig, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "speech")
    add_clips(tmp_path / "speech", "only", 12)
    make_manifest(config)
    add_clips(tmp_path / "speech", "only", 30)
    make_manifest(config)
    history, later = load_editions(config, "")
    sides = {clip.path: clip.split for clip in history.usable_clips("speech")}
    assert set(sides.values()) == {"train", "val"}
    assert {clip.split for clip in later.usable_clips("speech")} == {"train", "val"}
    assert all(
        sides.get(clip.path, clip.split) == clip.split for clip in later.usable_clips("speech")
    )
    add_clips(tmp_path / "speech", "another", 9)
    make_manifest(config)
    assert verify(f"{config.output}/manifest.json") == []


def test_a_kill_between_the_two_manifests_loses_no_edition(
    config: PrepConfig, tmp_path: Path
) -> None:
    make_manifest(config)
    first = (tmp_path / "out/manifest.json").read_bytes()
    add_clips(tmp_path / "speech", "late", 4)
    second = make_manifest(config)
    (tmp_path / "out/manifest-000002.json").unlink()
    (tmp_path / "out/manifest.json").write_bytes(first)
    assert make_manifest(config) == second
    assert load_manifest(config.output) == second


def test_noises_keep_their_side_under_another_name(config: PrepConfig, tmp_path: Path) -> None:
    make_manifest(config)
    before = {
        clip.sha256: clip.split for clip in load_editions(config, "")[0].usable_clips("noise")
    }
    for path in sorted((tmp_path / "noise").iterdir()):
        path.rename(path.with_name(f"renamed-{path.name}"))
    shutil.copy(tmp_path / "noise/renamed-0.wav", tmp_path / "noise/a-copy.wav")
    add_clips(tmp_path / "speech", "late", 4)
    make_manifest(config)
    after = {clip.sha256: clip.split for clip in load_editions(config, "")[1].usable_clips("noise")}
    assert after == before
    assert verify(f"{config.output}/manifest.json") == []


def test_a_side_without_noises_is_refused(config: PrepConfig, tmp_path: Path) -> None:
    make_manifest(config)
    noises = load_editions(config, "")[0].usable_clips("noise")
    for clip in noises:
        if clip.split == "val":
            (tmp_path / "noise" / clip.path).unlink()
    add_clips(tmp_path / "speech", "late", 9)
    with pytest.raises(ConfigError, match=r"noise: .* no recording in it for val"):
        prep(config)


def test_a_source_that_is_gone_is_told_with_what_to_do(config: PrepConfig, tmp_path: Path) -> None:
    make_manifest(config)
    (tmp_path / "out/train/shard-000001.index").unlink()
    shutil.move(tmp_path / "speech", tmp_path / "away")
    (tmp_path / "speech").mkdir()
    with pytest.raises(ShardError, match=r"\.wav: gone since it was scanned; put it back"):
        prep(config)


def test_a_speaker_pattern_is_for_speech_alone(config: PrepConfig) -> None:
    tree = configs.to_tree(config)
    tree["clips"] |= {"speaker_pattern": r"^s(\d)/"}
    make_manifest(configs.from_tree(PrepConfig, tree, "test"))
    (edition,) = load_editions(configs.from_tree(PrepConfig, tree, "test"), "")
    assert {clip.speaker for clip in edition.usable_clips("speech")} == set("0123456789")


def test_an_error_while_a_shard_is_drawn_is_no_end_of_the_shards(
    config: PrepConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise IndexError("a fault of the plan")

    monkeypatch.setattr(job, "draw_recipes", fail)
    with pytest.raises(IndexError, match="a fault of the plan"):
        prep(config)


def test_one_clip_cannot_be_split(config: PrepConfig, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "speech")
    add_clips(tmp_path / "speech", "only", 1)
    with pytest.raises(ConfigError, match=r"speech: .* 1 usable clips; two are needed"):
        prep(config)


def test_shards_name_their_plan(config: PrepConfig) -> None:
    manifest = make_manifest(config)
    (edition,) = load_editions(config, "")
    for split in manifest.splits.values():
        for shard in split:
            assert shards.load_index(config.output, shard).plan == edition.sha256
