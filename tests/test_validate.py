"""Validation's figures are the length-weighted means over all pairs, each counted once."""

from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.made_shards import make_shards
from timbre import config as configs
from timbre import metrics
from timbre.run import open_run
from timbre.train_config import TrainConfig
from timbre.validate import FIGURES, load_pair, validate


def test_figures_are_weighted_by_what_they_cover_and_no_pair_is_left_out(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4], [3, 2])
    given = [f"data=[{{manifest: {url}}}]", f"run_dir={tmp_path}/run", "segment_seconds=0.2"]
    run = open_run(configs.load(TrainConfig, ROOT / "configs/train_tiny.yaml", given))
    figures = validate(run.gan, run.reconstruction, run.validation, run.accelerator)
    run.close()
    assert figures.keys() == {f"val/{name}" for name in FIGURES}
    assert {"val/loss/adversarial", "val/loss/feature_matching"} <= figures.keys()
    assert len(run.validation) == 5
    values, weights = [], []
    for place in run.validation:
        pair = load_pair(place, torch.device("cpu"))
        sides = pair.degraded[:, 0], pair.clean[:, 0]
        values.append(metrics.log_spectral_distance(*sides, 0, 8000, pair.bandwidth_hz).item())
        weights.append(place.entry.samples)
    assert len(set(weights)) > 1
    expected = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
    assert figures["val/degraded/lsd_0_8k"] == pytest.approx(expected, rel=1e-6)
    assert figures["val/lsd_0_8k"] == pytest.approx(expected, rel=1e-3)  # it starts as the identity
