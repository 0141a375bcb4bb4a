"""Pairs of a telephone: both sides end at its band, and shards depend on the plan alone."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.metas import read_metas
from shard_tools.mix import codec
from shard_tools.mix.codec import CODECS
from shard_tools.plan.editions import load_editions
from shard_tools.prep.prep import prep
from tests.help.plain_prep import make_manifest, plain_config
from tests.help.small_prep import write_sources
from timbre import audio, cli, shards
from timbre import config as configs
from timbre.audio import SAMPLE_RATE, Wave, level_db
from timbre.errors import ConfigError
from timbre.shards import DataSource, PairList, open_corpus

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
VARIETY = {"telephone_share": 0.5, "telephone_codecs": ["plain_16k", "alaw", "gsm"]}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("telephone"))


def telephone(sources: Path, output: Path, **keys: Any) -> PrepConfig:
    keys = {"variety": VARIETY, "save_segment_seconds": 2.0, "store_noisy": True} | keys
    return plain_config(str(sources), output=str(output), **keys)


def highs_db(wave: Wave, hz: float) -> float:
    spectrum = np.fft.rfft(wave * np.hanning(len(wave)))
    spectrum[np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE) < hz] = 0
    return level_db(np.fft.irfft(spectrum, len(wave)).astype(np.float32)) - level_db(wave)


@needs_ffmpeg
def test_both_sides_of_a_telephones_pair_end_at_its_band(sources: Path, tmp_path: Path) -> None:
    config = telephone(sources, tmp_path / "out")
    manifest = make_manifest(config)
    metas = read_metas(config.output, manifest, "train")
    places = PairList([open_corpus(DataSource(config.output), "train")])
    names = {meta.codec for meta in metas}
    assert names >= {"", "alaw"} and names <= {"", *VARIETY["telephone_codecs"]}  # type: ignore[misc]
    for place, meta in zip(places, metas, strict=True):
        members = [f"{side}.{config.audio_format}" for side in ("clean", "noisy")]
        data = shards.read_members(place.url, place.entry, members)
        clean, noisy = (audio.decode_bytes(bytes(d), place.url)[0][0] for d in data)
        if not meta.codec:
            assert highs_db(noisy, 9000) > -45
            continue
        edge_hz = CODECS[meta.codec].rate / 2
        assert meta.bandwidth_hz == place.entry.bandwidth_hz <= edge_hz
        assert max(highs_db(clean, 1.1 * edge_hz), highs_db(noisy, 1.1 * edge_hz)) < -55


@needs_ffmpeg
def test_a_share_of_telephones_changes_no_other_pair_and_is_repeatable(
    sources: Path, tmp_path: Path
) -> None:
    outputs = [tmp_path / name for name in ("one", "two", "without")]
    one, two = (telephone(sources, output) for output in outputs[:2])
    without = telephone(sources, outputs[2], variety={})
    by_key = []
    for config in (one, two, without):
        manifest = make_manifest(config)
        metas = read_metas(config.output, manifest, "train")
        by_key.append({meta.key: meta for meta in metas})
    shard = "train/shard-000000.tar"
    assert (outputs[0] / shard).read_bytes() == (outputs[1] / shard).read_bytes()
    plain = [key for key, meta in by_key[0].items() if not meta.codec]
    assert plain and all(by_key[0][key] == by_key[2][key] for key in plain if key in by_key[2])


@needs_ffmpeg
def test_a_machine_that_codes_otherwise_makes_no_shard_of_the_plan(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = telephone(sources, tmp_path / "out")
    make_manifest(config)
    (edition,) = load_editions(config, "")
    assert len(edition.record.settings["codecs_sha256"]) == 64
    monkeypatch.setattr("shard_tools.config.fingerprint", lambda names: "ab" * 32)
    with pytest.raises(ConfigError, match=r"codecs_sha256 was .*, is now abab"):
        prep(replace(config, workers=1))


def test_without_ffmpeg_prep_ends_in_one_line_and_writes_no_plan(
    sources: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(codec, "FFMPEG", "no-such-ffmpeg")
    codec._delay.cache_clear()
    codec.fingerprint.cache_clear()
    path = tmp_path / "prep.yaml"
    path.write_text(configs.dump(telephone(sources, tmp_path / "out")))
    assert cli.main(["prep", str(path)]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "ffmpeg" in line)
    assert "apt-get install ffmpeg" in line
    assert not list((tmp_path / "out").rglob("*.tar")) and not list(tmp_path.rglob("plan-*"))
