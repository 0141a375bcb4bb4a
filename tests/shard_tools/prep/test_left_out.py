"""Clips that cannot be used: left out, counted and named, or the end of the job."""

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.prep.prep import prep
from tests.help.plain_prep import make_manifest, with_changes
from timbre import audio
from timbre import config as configs
from timbre.errors import AudioError, ShardError


def test_a_corrupt_clip_among_many_is_left_out_counted_and_named(
    small: PrepConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speech/s0/00.wav").write_text("no audio")
    manifest = make_manifest(small)
    assert manifest.clips["speech"] == {"unreadable": 1, "used": 59}
    assert "left out as unreadable: 1 of 60: s0/00.wav" in capsys.readouterr().out
    pairs = sum(shard.pairs for split in manifest.splits.values() for shard in split)
    assert pairs + sum(manifest.rejected.values()) == 59


def test_a_clip_that_breaks_off_is_unreadable(small: PrepConfig, tmp_path: Path) -> None:
    cut_flac(tmp_path / "speech/s1/61.flac")
    assert make_manifest(small).clips["speech"] == {"unreadable": 1, "used": 60}


def cut_flac(path: Path) -> None:
    audio.write(path, np.random.default_rng(1).standard_normal(24000).astype(np.float32) / 9, 48000)
    path.write_bytes(path.read_bytes()[:9000])


def test_too_many_corrupt_clips_stop_the_job_before_any_shard_however_often_it_is_run(
    small: PrepConfig, tmp_path: Path
) -> None:
    for number in range(3):
        cut_flac(tmp_path / f"speech/s{number}/9{number}.flac")
    for _ in range(2):
        with pytest.raises(AudioError, match=r"3 of 63 clips .* max_bad_fraction 0\.02.*90\.flac"):
            prep(small)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"catalogue"}


def test_noises_that_cannot_be_decoded_count_too(small: PrepConfig, tmp_path: Path) -> None:
    cut_flac(tmp_path / "noise/3.flac")
    with pytest.raises(AudioError, match=r"noise: 1 of 4 clips .*3\.flac"):
        prep(small)


def test_a_clip_that_changed_since_the_scan_stops_the_job_by_name(
    small: PrepConfig, tmp_path: Path
) -> None:
    prep(small)
    for path in (tmp_path / "out").rglob("shard-*"):
        path.unlink()
    clip = tmp_path / "speech/s3/03.wav"
    clip.write_bytes(clip.read_bytes()[:-2] + b"\x01\x02")
    with pytest.raises(ShardError, match=r"s3/03\.wav: changed since it was scanned"):
        prep(small)


def test_the_same_recording_under_two_names_is_used_once(small: PrepConfig, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "speech/s0/00.wav", tmp_path / "speech/s5/again.wav")
    assert make_manifest(small).clips["speech"] == {"duplicate": 1, "used": 60}


def test_a_page_tells_what_was_left_out_and_plays_it(small: PrepConfig, tmp_path: Path) -> None:
    strict = with_changes(
        small, quality={**configs.to_tree(small)["quality"], "min_spectral_correlation": 0.97}
    )
    manifest = make_manifest(strict)
    assert manifest.rejected["denoiser_lost_speech"] >= 3
    page = (tmp_path / "out/left-out-000001.html").read_text()
    row = f"<td>denoiser_lost_speech</td><td>{manifest.rejected['denoiser_lost_speech']}</td>"
    assert row in page
    assert page.count("<audio") == 9
    mp3 = page.partition("base64,")[2].partition('"')[0]
    wave, rate = audio.decode_bytes(base64.b64decode(mp3), "example")
    assert rate == 48000 and wave.shape[1] >= 24000 and np.abs(wave).max() > 0.01
