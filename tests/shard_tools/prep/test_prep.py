"""`timbre prep`, with the real denoiser: complete, repeatable, resumable, and plain about bad input."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.make.job import open_job, shard_task
from shard_tools.make.shard import make_shard
from shard_tools.metas import read_metas
from shard_tools.plan.editions import load_editions, plan_url
from shard_tools.prep.prep import prep
from shard_tools.verify.manifest import verify
from tests.help.plain_prep import make_manifest, with_changes
from timbre import audio, cli, shards
from timbre import config as configs
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError
from timbre.shards import NOISY_SIDES, PairMeta
from timbre.shards.corpus import DataSource, open_corpus
from timbre.shards.pairs import holds_noisy, read_whole
from timbre.shards.whole_pairs import PairList
from timbre.storage import files as storage


def digest(folder: str) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.suffix in (".tar", ".index")
    }


def test_shards_hold_what_the_contract_says(prep_config: PrepConfig, manifest_url: str) -> None:
    assert verify(manifest_url) == []
    manifest = shards.load_manifest(manifest_url)
    pieces = 4 * 2 * 2 * 2  # speakers, clips, pieces of 4.5 s, variants
    pairs = sum(shard.pairs for split in manifest.splits.values() for shard in split)
    assert pairs + sum(manifest.rejected.values()) == pieces
    assert pairs > 0.8 * pieces
    assert manifest.config["save_segment_seconds"] == prep_config.save_segment_seconds
    metas = [
        meta for split in manifest.splits for meta in read_metas(manifest_url, manifest, split)
    ]
    for meta in metas:
        assert prep_config.save_segment_seconds * 48000 <= meta.samples
        assert abs(meta.snr_reached_db - meta.snr_db) < 0.1
        assert meta.denoiser_sha256 == manifest.hashes["denoiser"]
        assert len(meta.denoiser_sha256) == 64
        assert meta.bandwidth_hz > 10000
        if meta.rir is None:
            assert meta.alignment_offset == 0  # DeepFilterNet3's delay is compensated


def test_speakers_are_on_one_side_only(manifest_url: str) -> None:
    manifest = shards.load_manifest(manifest_url)
    sides = [
        {meta.speaker for meta in read_metas(manifest_url, manifest, split)}
        for split in ("train", "val")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_the_degraded_side_is_the_denoised_clean_side(manifest_url: str) -> None:
    """It is in time, and on average nearer to clean than the mixture; single babbles may be farther."""
    manifest = shards.load_manifest(manifest_url)
    metas: dict[str, PairMeta] = {
        meta.key: meta
        for split in ("train", "val")
        for meta in read_metas(manifest_url, manifest, split)
    }
    gains = []
    corpora = [open_corpus(DataSource(manifest_url), split) for split in ("train", "val")]
    for place in PairList(corpora):
        meta = metas[place.entry.key]
        if meta.rir is None and meta.snr_db < 15:
            degraded, clean = (wave.astype(float) for wave in read_whole(place))
            ratio_db = 10 * np.log10(np.sum(clean**2) / np.sum((degraded - clean) ** 2))
            gains.append(ratio_db - meta.snr_db)
    assert len(gains) > 5
    assert np.median(gains) > 2


@pytest.mark.parametrize("workers", [2])
def test_any_number_of_workers_gives_the_same_bytes(
    prep_config: PrepConfig, manifest_url: str, tmp_path: Path, workers: int
) -> None:
    prep(with_changes(prep_config, output=str(tmp_path), workers=workers))
    assert digest(str(tmp_path)) == digest(prep_config.output)


def test_a_rerun_makes_only_what_is_missing_and_gives_the_same_bytes(
    prep_config: PrepConfig, manifest_url: str, tmp_path: Path
) -> None:
    folder = str(tmp_path / "copy")
    shutil.copytree(prep_config.output, folder)
    before = digest(folder)
    missing, present = "val/shard-000000.tar", "train/shard-000000.tar"
    for name in (missing, shards.index_path(missing)):
        (Path(folder) / name).unlink()
    modified = (Path(folder) / present).stat().st_mtime_ns
    prep(with_changes(prep_config, output=folder))
    assert digest(folder) == before
    assert (Path(folder) / present).stat().st_mtime_ns == modified


def test_shards_of_two_plans_never_mix(prep_config: PrepConfig, manifest_url: str) -> None:
    with pytest.raises(ConfigError, match="another plan: seed was 0, is now 9; choose another"):
        prep(with_changes(prep_config, seed=9))


def test_a_noisy_side_is_what_was_denoised_and_leaves_all_else_as_it_is(
    prep_config: PrepConfig, manifest_url: str, tmp_path: Path
) -> None:
    denoiser_sha256 = shards.load_manifest(manifest_url).hashes["denoiser"]
    job = open_job(prep_config, load_editions(prep_config, denoiser_sha256)[0])
    hearing = job.settings._replace(folder=str(tmp_path), store_noisy=True)
    make_shard(hearing, shard_task(prep_config, job, ("val", 0)))
    path = "val/shard-000000.tar"
    before, after = (
        shards.index_tar(storage.read(f"{folder}/{path}"), path)
        for folder in (prep_config.output, tmp_path)
    )
    assert len(before.pairs) == len(after.pairs) > 2
    for one, other in zip(before.pairs, after.pairs, strict=True):
        assert {*other.members} == {*one.members, "noisy.flac"}
        for name, member in one.members.items():
            assert member[1:] == other.members[name][1:]  # length and CRC-32
        names = tuple(shards.audio_member(other.members, s) for s in ("clean", "noisy"))
        meta, *sides = shards.read_members(
            f"{tmp_path}/{path}", other, (shards.META_MEMBER, *names)
        )
        clean, noisy = (shards.decode_segment(d, 0, other.samples, "") / 1.0 for d in sides)
        pair_meta = shards.from_json(PairMeta, bytes(meta), "meta")
        if pair_meta.rir is None:
            ratio_db = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
            assert ratio_db == pytest.approx(pair_meta.snr_reached_db, abs=0.1)


def test_noises_are_decoded_once_and_shared_not_read_again(
    small: PrepConfig, tmp_path: Path
) -> None:
    prep(small)
    (edition,) = load_editions(small, "")
    job = open_job(small, edition)
    for path in (tmp_path / "noise").iterdir():
        path.unlink()
    shard = job.plan.shards()[0]
    path = tmp_path / "out" / shards.shard_path(*shard)
    before = path.read_bytes()
    path.unlink()
    path.with_suffix(".index").unlink()
    make_shard(job.settings, shard_task(small, job, shard))
    assert path.read_bytes() == before


def test_whether_the_noisy_side_is_stored_is_part_of_the_plan(small: PrepConfig) -> None:
    hearing = with_changes(small, store_noisy=True, output=f"{small.output}-noisy")
    manifests = [make_manifest(config) for config in (small, hearing)]
    assert manifests[1].config["store_noisy"] and verify(hearing.output) == []
    for one, other in zip(
        *(PairList([open_corpus(DataSource(c.output), "train")]) for c in (small, hearing)),
        strict=True,
    ):
        assert not holds_noisy(one.entry)
        # Without a denoiser both are one.
        degraded, _, noisy = read_whole(other, NOISY_SIDES)
        np.testing.assert_array_equal(noisy, degraded)
    # A plan from before there was the choice goes on.
    record = storage.read(plan_url(small.output, 1))
    assert b"store_noisy" not in record
    with pytest.raises(ConfigError, match="another plan: store_noisy was not set, is now True"):
        prep(with_changes(small, store_noisy=True))


def test_sources_and_output_may_be_urls(small: PrepConfig, tmp_path: Path) -> None:
    local = make_manifest(small)
    for role in ("speech", "noise"):
        for path in sorted((tmp_path / role).rglob("*.wav")):
            storage.publish(
                f"memory://{tmp_path.name}/{path.relative_to(tmp_path)}", path.read_bytes()
            )
    remote = make_manifest(with_changes(small, **{
        name: f"memory://{tmp_path.name}/{name}" for name in ("speech", "noise", "output")
    }))  # fmt: skip
    assert remote.splits == local.splits
    assert verify(f"memory://{tmp_path.name}/output/manifest.json") == []


def test_clips_are_brought_to_48_khz_mono(small: PrepConfig, tmp_path: Path) -> None:
    mono = audio.resample(voice(1.0, np.random.default_rng(2)), 48000, 22050)[:11025]
    audio.write(tmp_path / "speech/s0/00.wav", np.stack([mono, mono]), 22050)
    manifest = make_manifest(with_changes(small, mix={"near_clean_share": 1.0}))
    assert sum(s.pairs for split in manifest.splits.values() for s in split) == 60
    meta = {
        m.clean.path: m
        for split in manifest.splits
        for m in read_metas(f"{small.output}/manifest.json", manifest, split)
    }["s0/00.wav"]
    assert meta.samples == 24000
    assert 8000 < meta.bandwidth_hz < 11500


@pytest.mark.parametrize(
    ("override", "message", "code"),
    [
        ("speech={tmp}/gone", "speech: {tmp}/gone: no such folder", 2),
        ("noise={tmp}/speech/s0/00.wav", "noise: {tmp}/speech/s0/00.wav: ", 2),
        ("speech={tmp}/empty", "speech: {tmp}/empty: no audio in it", 2),
        ("speech={tmp}/rows.jsonl", "1 rows name no file: nothere.wav", 2),
        ("speech={tmp}/broken.jsonl", "broken.jsonl, line 1: the row: Invalid JSON", 2),
        ("output={tmp}/speech/s0/00.wav/out", "00.wav", 1),
        ("variants=no", "variants: expected a valid integer, got 'no'", 2),
    ],
)
def test_bad_input_gets_one_clear_error(
    small: PrepConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
    code: int,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"file": "speech/s0/00.wav"}\n{"file": "nothere.wav"}\n')
    (tmp_path / "broken.jsonl").write_text("file: a.wav\n")
    (tmp_path / "prep.yaml").write_text(configs.dump(small))
    assert cli.main(["prep", f"{tmp_path}/prep.yaml", override.format(tmp=tmp_path)]) == code
    error = capsys.readouterr().err
    assert error.count("timbre: error:") == 1
    assert message.format(tmp=tmp_path) in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_nothing_but_finished_files_is_left_behind(
    prep_config: PrepConfig, manifest_url: str
) -> None:
    names = {Path(path).suffix for path in storage.find_below(prep_config.output)}
    assert names == {".tar", ".index", ".json", ".jsonl", ".html"}
