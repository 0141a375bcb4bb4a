"""Shards behind several denoisers: each pair through one, drawn by the plan alone."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.metas import read_metas
from shard_tools.prep.prep import prep
from shard_tools.stats.command import main as stats
from tests.conftest import ROOT
from tests.help.plain_prep import make_manifest, plain_config
from tests.help.small_prep import contents, write_sources
from timbre import audio, cli, shards
from timbre import config as configs
from timbre.denoise import load_denoiser
from timbre.denoiser_names import from_record
from timbre.errors import ConfigError
from timbre.shards import DataSource, PairList, open_corpus

pytest.importorskip("noisereduce")
pytest.importorskip("pyrnnoise")
SHARES = {"none": 0.4, "rnnoise": 0.4, "gate": 0.2}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("several"))


@pytest.fixture
def mixed(sources: Path, tmp_path: Path) -> PrepConfig:
    return with_shares(
        plain_config(str(sources), output=str(tmp_path / "out")), SHARES, save_segment_seconds=2.0
    )


def with_shares(config: PrepConfig, shares: dict[str, float], **keys: Any) -> PrepConfig:
    tree = configs.to_tree(config)
    tree |= {"denoiser": {"lead_in_seconds": 0.0}, "denoisers": shares, "store_noisy": True} | keys
    loose = {"min_confidence": 0.0, "min_spectral_correlation": 0.0, "min_kept_db": -60.0}
    tree["quality"] |= loose
    return configs.from_tree(PrepConfig, tree, "test")


def test_each_pair_says_which_denoiser_it_went_through_and_did(mixed: PrepConfig) -> None:
    manifest = make_manifest(mixed)
    corpus = open_corpus(DataSource(mixed.output), "train")
    assert corpus.denoisers == ("gate", "none", "rnnoise")
    counts: Counter[str] = Counter()
    metas = read_metas(mixed.output, manifest, "train")
    for place, meta in list(zip(PairList([corpus]), metas, strict=True))[:12]:
        name = from_record(meta.denoiser)
        counts[name] += 1
        denoiser = load_denoiser(name)
        assert meta.denoiser_sha256 == (denoiser.weights_sha256 if denoiser else "")
        names = [f"{side}.{mixed.audio_format}" for side in ("noisy", "degraded")]
        data = shards.read_members(place.url, place.entry, names)
        noisy, degraded = (audio.decode_bytes(bytes(d), place.url)[0][0] for d in data)
        expected = denoiser.denoise_clips([noisy])[0] if denoiser else noisy
        error = np.square(degraded - expected).mean() / np.square(expected).mean()
        assert error < 1e-4, (name, error)
    assert len(counts) == 3


def test_a_shard_of_several_denoisers_is_a_pure_function_of_the_plan(
    mixed: PrepConfig, tmp_path: Path
) -> None:
    other = replace(mixed, output=str(tmp_path / "other"))
    make_manifest(mixed)
    shard = Path(mixed.output) / "train/shard-000000.tar"
    before = shard.read_bytes()
    shard.unlink()
    assert prep(mixed) is not None and shard.read_bytes() == before
    make_manifest(other)
    one, two = contents(Path(mixed.output)), contents(Path(other.output))
    same = [name for name in one if name.endswith((".tar", ".index"))]
    assert same and all(one[name] == two[name] for name in same)


def test_other_shares_are_another_plan(mixed: PrepConfig) -> None:
    make_manifest(mixed)
    with pytest.raises(ConfigError, match=r"denoisers\.gate was 0\.2, is now 0\.3"):
        prep(with_shares(mixed, {"none": 0.3, "rnnoise": 0.4, "gate": 0.3}))


def test_stats_tell_the_figures_of_each_denoiser(
    mixed: PrepConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    make_manifest(mixed)
    capsys.readouterr()
    assert stats([mixed.output, "--json"]) == 0
    train = json.loads(capsys.readouterr().out)["splits"]["train"]
    by_denoiser = train["figures_by_denoiser"]
    assert by_denoiser.keys() == SHARES.keys()
    pairs = {name: figures["duration"]["pairs"] for name, figures in by_denoiser.items()}
    assert sum(pairs.values()) == train["pairs"]
    assert by_denoiser["none"]["kept_level"]["mean"] > by_denoiser["gate"]["kept_level"]["mean"]
    assert stats([mixed.output]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["median", "split", "pairs", "snr_reached", "offset", "confidence", "kept_level"] in rows
    assert any(row[:3] == ["gate", "train", str(pairs["gate"])] for row in rows)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ("{df3: 0.5, gate: 0.4}", "denoisers: expected shares that add up to 1, got 0.9"),
        ("{df3: 1.2, gate: -0.2}", "denoisers: gate: expected a share above 0, got -0.2"),
        ("{df3: 0.5, dpdfnet: 0.5}", "expected df3, official, rnnoise, gate, none or onnx:PATH"),
        ("{df3: 0.5, deepfilternet3: 0.5}", "expected each kind of denoiser once"),
        ("{'onnx:a': 0.5, 'onnx:b': 0.5}", "expected each kind of denoiser once"),
        ("{}", "expected each kind of denoiser once, got none"),
        ("[df3]", "denoisers"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares: str, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        configs.load(PrepConfig, ROOT / "configs/prep.yaml", [f"denoisers={shares}"])
    assert message in str(failure.value)


def test_one_name_and_several_shares_contradict_each_other() -> None:
    words = ["denoisers={df3: 0.5, gate: 0.5}", "denoiser.name=gate"]
    with pytest.raises(ConfigError, match=r"denoiser\.name gate: contradicts denoisers"):
        configs.load(PrepConfig, ROOT / "configs/prep.yaml", words)


def test_a_missing_package_ends_prep_in_one_line_before_anything_is_written(
    mixed: PrepConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from shard_tools.degrade import degrade

    degrade._load.cache_clear()
    monkeypatch.setattr("timbre.packages.find_spec", lambda name: None)
    (tmp_path / "prep.yaml").write_text(configs.dump(mixed))
    assert cli.main(["prep", str(tmp_path / "prep.yaml")]) == 1
    assert "pip install 'timbre[gate]'" in capsys.readouterr().err
    assert not Path(mixed.output).exists()
