"""Validation tells the figures of pairs behind each denoiser, and of telephones, apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.help.made_shards import change_manifest, make_shards, rewrite_shard
from tests.train.validation.test_validation import measure, start
from timbre.models.checkpoint import load_checkpoint


def behind(name: str, band_hz: float, pair: Any) -> Any:
    degraded = pair.clean // 4 if name == "gate" else pair.degraded
    meta = replace(pair.meta, denoiser=name, bandwidth_hz=band_hz)
    return pair._replace(meta=meta, degraded=degraded)


def test_each_denoiser_and_telephones_have_figures_of_their_own(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4], [3, 2])
    rewrite_shard(url, "val/shard-000000.tar", lambda pair: behind("gate", 3_700.0, pair))
    rewrite_shard(url, "val/shard-000001.tar", lambda pair: behind("deepfilternet3", 21e3, pair))
    change_manifest(url, config={"denoisers": {"df3": 0.5, "gate": 0.5}})
    run = start(tmp_path, url)
    figures, again = measure(run), measure(run)
    assert run.state.state_dict()["denoisers"] == ["df3", "gate"]
    run.close()
    name = "degraded/lsd_0_8k"
    assert figures["val/behind_gate/mel_distance"] == figures["val/telephone/mel_distance"]
    parts = (figures[f"val/behind_{denoiser}/{name}"] for denoiser in ("gate", "df3"))
    low, high = sorted(parts)
    assert low < figures[f"val/{name}"] < high
    assert again.keys() == figures.keys()
    assert again["val/behind_gate/lsd_0_8k"] == pytest.approx(figures["val/behind_gate/lsd_0_8k"])


def test_pairs_of_one_denoiser_are_no_group(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4], [2])
    change_manifest(url, config={"denoiser": {"name": "rnnoise"}})
    run = start(tmp_path, url)
    assert not any("behind" in name or "telephone" in name for name in measure(run))
    run.validate()
    run.close()
    best = f"{tmp_path}/run/best.safetensors"
    assert load_checkpoint(best).denoisers == ("rnnoise",)
