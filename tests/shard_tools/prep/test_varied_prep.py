"""A prep with all of its variety: the same bytes everywhere, told in the metas, no leakage."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from shard_tools.config import PrepConfig
from shard_tools.metas import read_metas
from shard_tools.prep.prep import prep
from shard_tools.verify.manifest import verify
from tests.help.small_prep import contents, write_sources
from timbre import config as configs
from timbre.audio import read_mono, write


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("varied"))


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        for info in tar:
            file = tar.extractfile(info)
            assert file is not None
            yield info.name, file.read()


def config(sources: Path, output: Path) -> PrepConfig:
    tree = {
        "speech": f"{sources}/speech",
        "noise": f"{sources}/noise",
        "output": str(output),
        "workers": 1,
        "shard_pairs": 8,
        "save_segment_seconds": 1.0,
        "val_ratio": 0.2,
        "store_noisy": True,
        "denoiser": {"name": "none"},
        "clips": {"min_bandwidth_hz": 0.0},
        "mix": {"snr_db_low": -2.0, "near_clean_share": 0.3, "near_clean_snr_db_high": 60.0},
        "variety": {
            "speech_low_pass_share": 0.4,
            "noise_low_pass_share": 0.4,
            "speech_equaliser_share": 0.4,
            "noise_equaliser_share": 0.4,
            "gap_share": 0.3,
            "gap_seconds": [0.2, 0.4],
            "made_noise_share": 0.5,
            "noise_speed_share": 0.5,
            "noise_backwards_share": 0.3,
            "noise_change_share": 0.3,
            "hiss_share": 0.3,
        },
        "target": {"pause_db": -30.0},
    }
    return configs.from_tree(PrepConfig, tree, "test")


def test_all_variety_at_once_is_repeatable_told_and_refuses_nobody(
    sources: Path, tmp_path: Path
) -> None:
    one, other = (config(sources, tmp_path / name) for name in ("one", "other"))
    manifest = prep(one)
    assert manifest is not None and prep(replace(other, workers=2)) is not None
    first, second = contents(tmp_path / "one"), contents(tmp_path / "other")
    same = [name for name in first if name.endswith((".tar", ".index"))]
    assert same and all(first[name] == second[name] for name in same)
    # Without a denoiser loud noise stays on the degraded side; nothing else is a reason to refuse.
    assert not manifest.rejected.keys() - {"denoiser_lost_speech"}
    url = f"{one.output}/manifest.json"
    metas = [meta for split in manifest.splits for meta in read_metas(url, manifest, split)]
    assert all(meta.variety["pause_db"] == -30.0 for meta in metas)
    for key in ("low_pass_hz", "gap_seconds", "made_noises", "hiss_below_db", "equaliser"):
        share = float(np.mean([key in meta.variety for meta in metas]))
        assert 0.1 < share < 0.8, key
    for meta in metas:
        assert meta.bandwidth_hz <= meta.variety.get("low_pass_hz", 24_000.0)
    assert verify(url, workers=1) == []


def test_pairs_without_variety_have_metas_as_before(sources: Path, tmp_path: Path) -> None:
    tree = configs.to_tree(config(sources, tmp_path / "plain"))
    del tree["variety"], tree["target"]
    manifest = prep(configs.from_tree(PrepConfig, tree, "test"))
    assert manifest is not None
    first = next((tmp_path / "plain/train").glob("*.tar")).read_bytes()
    assert b'"voices"' in first and b'"variety"' not in first
    assert not {"variety", "target", "split_by"} & manifest.config.keys()


def test_a_constant_offset_changes_no_ratio(sources: Path, tmp_path: Path) -> None:
    for path in (sources / "speech").rglob("*.flac"):
        wave = 0.3 * read_mono(path) + np.float32(0.03)
        write(tmp_path / "speech" / path.parent.name / f"{path.stem}.wav", wave, 48_000)
    tree = configs.to_tree(config(sources, tmp_path / "out"))
    del tree["variety"], tree["target"]
    manifest = prep(configs.from_tree(PrepConfig, {**tree, "speech": f"{tmp_path}/speech"}, "test"))
    assert manifest is not None
    for path in (tmp_path / "out").rglob("*.tar"):
        for name, data in members(path):
            if name.endswith(".clean.flac"):
                assert abs(float(soundfile.read(io.BytesIO(data))[0].mean())) < 0.003
