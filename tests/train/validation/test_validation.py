"""Validation's figures are the length-weighted means over all pairs, each counted once."""

import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from tests.conftest import ROOT
from tests.help.made_shards import change_manifest, make_shards, rewrite_shard, spoil_pair
from timbre import config as configs
from timbre import shards
from timbre.audio import metrics
from timbre.errors import ShardError
from timbre.shards.corpus import DataSource, open_corpus
from timbre.shards.whole_pairs import PairList, load_pair, spread
from timbre.train.config import TrainConfig
from timbre.train.run import Run, open_run
from timbre.train.validation.figures import summary

CPU = torch.device("cpu")


class Halving(nn.Module):
    """A generator that halves what it is given, so that nothing it does is the identity."""

    def forward(self, waves: Tensor, _: Tensor | None = None) -> Tensor:
        return waves / 2


class Hearing(nn.Module):
    """A generator that returns its second input where it is given one."""

    def forward(self, waves: Tensor, noisy: Tensor | None = None) -> Tensor:
        return waves if noisy is None else noisy


class AllNan(nn.Module):
    """A generator of nothing but NaN."""

    def forward(self, waves: Tensor, _: Tensor | None = None) -> Tensor:
        return waves * math.nan


class Mute(nn.Module):
    """A generator that silences one pair and leaves the others alone."""

    def __init__(self, wave: Tensor) -> None:
        super().__init__()
        self.wave = wave

    def forward(self, waves: Tensor, _: Tensor | None = None) -> Tensor:
        return waves * (not waves.equal(self.wave))


def start(folder: Path, url: str, *overrides: str) -> Run:
    all_overrides = [f"data=[{{manifest: {url}}}]", f"run_dir={folder}/run", "segment_seconds=0.2"]
    return open_run(
        configs.load(TrainConfig, ROOT / "configs/train_tiny.yaml", [*all_overrides, *overrides])
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [4], [3, 2])


@pytest.fixture
def run(url: str, tmp_path: Path) -> Iterator[Run]:
    run = start(tmp_path, url)
    yield run
    run.close()


def measure(run: Run) -> dict[str, float]:
    return run.validation.measure(run.gan, run.reconstruction)


def test_figures_are_weighted_by_what_they_cover_and_no_pair_is_left_out(run: Run) -> None:
    figures = measure(run)
    assert {"val/loss/adversarial", "val/loss/feature_matching"} <= figures.keys()
    assert len(run.validation.pairs) == 5
    values, weights = [], []
    for place in run.validation.pairs:
        pair = load_pair(place, CPU)
        sides = pair.degraded[:, 0], pair.clean[:, 0]
        values.append(metrics.log_spectral_distance(*sides, 0, 8000, pair.bandwidth_hz).item())
        weights.append(place.entry.samples)
    assert len(set(weights)) > 1
    expected = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
    assert figures["val/degraded/lsd_0_8k"] == pytest.approx(expected, rel=1e-9)
    assert figures["val/lsd_0_8k"] == pytest.approx(expected, rel=1e-3)  # it starts as the identity
    assert figures["val/score"] == pytest.approx(1, abs=1e-3)


def test_the_generator_is_measured_each_time_and_the_degraded_side_once(run: Run) -> None:
    before = measure(run)
    run.gan.average = Halving()
    after = measure(run)
    # Halved again: 6 dB more of every spectral distance, and nothing of SI-SDR.
    assert after["val/lsd_0_8k"] == pytest.approx(before["val/lsd_0_8k"] + 6.02, abs=0.05)
    assert after["val/si_sdr"] == pytest.approx(before["val/si_sdr"], abs=0.1)
    for name in before:
        if name.startswith("val/degraded/"):
            assert after[name] == before[name]
    # The one known all along is what a run that starts now measures.
    run.validation.degraded_figures = {}
    assert measure(run) == after


def test_no_validation_teaches_the_discriminator_anything(run: Run) -> None:
    before = [parameter.clone() for parameter in run.gan.discriminator.parameters()]
    measure(run)
    for parameter, was in zip(run.gan.discriminator.parameters(), before, strict=True):
        assert parameter.equal(was) and parameter.grad is None and parameter.requires_grad


def test_harm_is_what_the_generator_does_to_clean_speech(run: Run) -> None:
    start = measure(run)
    assert start["val/harm/si_sdr"] > 60 and start["val/harm/lsd_0_8k"] < 0.01
    assert start["val/penalty/harm"] == 0
    run.gan.average = Halving()
    figures = measure(run)
    for band in ("lsd_0_8k", "lsd_8_24k"):
        assert figures[f"val/harm/{band}"] == pytest.approx(6.02, abs=0.01)
    assert figures["val/harm/si_sdr"] == 100  # of any scale
    assert figures["val/penalty/harm"] > 0
    assert figures["val/score"] > start["val/score"]


@pytest.mark.parametrize(
    ("noisy_input", "has_noisy", "distance_db"),
    # Degraded is half of clean, noisy three quarters.
    [("true", True, 2.5), ("true", False, 6.02), ("false", True, 6.02)],
)
def test_a_generator_is_measured_with_the_noisy_side_if_it_wants_it_and_it_is_stored(
    tmp_path: Path, noisy_input: str, has_noisy: bool, distance_db: float
) -> None:
    url = make_shards(tmp_path / "shards", [4], [3], noisy=True)
    if not has_noisy:
        rewrite_shard(url, "val/shard-000000.tar", lambda pair: pair._replace(noisy=None))
    run = start(tmp_path, url, f"generator.noisy_input={noisy_input}")
    run.gan.average = Hearing()
    figures = measure(run)
    examples = list(run.validation.show(run.gan))
    run.close()
    for band in ("lsd_0_8k", "lsd_8_24k"):
        assert figures[f"val/{band}"] == pytest.approx(distance_db, abs=0.03)
        assert figures[f"val/degraded/{band}"] == pytest.approx(6.02, abs=0.03)
        assert figures[f"val/harm/{band}"] == 0
    for _, pair, restored in examples:
        assert restored.equal(pair.degraded) == (distance_db > 3)


def test_a_broken_generator_shows_and_scores_infinity(run: Run) -> None:
    run.gan.average = AllNan()
    figures = measure(run)
    assert math.isnan(figures["val/lsd_0_8k"]) and math.isnan(figures["val/harm/lsd_0_8k"])
    assert figures["val/score"] == math.inf
    assert math.isfinite(figures["val/degraded/lsd_0_8k"])


def test_narrow_band_data_has_a_score_without_the_highs(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4], [2])
    rewrite_shard(
        url,
        "val/shard-000000.tar",
        lambda pair: pair._replace(meta=dataclasses.replace(pair.meta, bandwidth_hz=7000.0)),
    )
    run = start(tmp_path, url)
    figures = measure(run)
    run.close()
    assert not any("8_24k" in name for name in figures)
    assert figures["val/score"] == pytest.approx(1, abs=1e-3)
    assert "lsd_0_8k" in summary(figures) and "8_24k" not in summary(figures)


def test_real_speech_is_heard_and_pairs_without_any_are_left_out_and_counted(
    manifest_url: str, tmp_path: Path
) -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    overrides = ["perceptual_pairs=3", "harm_pairs=0", "shown_pairs=3"]
    run = start(tmp_path, manifest_url, *(f"validation.{item}" for item in overrides))
    places = [run.validation.pairs[row] for row in sorted(run.validation.perceptual)]
    silent, *others = [load_pair(place, CPU) for place in places]
    run.gan.average = Mute(silent.degraded)
    figures = measure(run)
    run.close()
    assert (figures["val/pesq_left_out"], figures["val/estoi_left_out"]) == (1, 1)
    assert "pesq had no speech in 1" in summary(figures)
    assert not any("harm/" in name for name in figures if "penalty" not in name)
    # The means are of the two others, weighted, on either side.
    weights = [place.entry.samples for place in places[1:]]
    for name, metric in [("pesq", metrics.pesq_wideband), ("estoi", metrics.estoi)]:
        values = [metric(p.degraded[0, 0], p.clean[0, 0]).item() for p in others]
        expected = pytest.approx(np.average(values, weights=weights))
        assert figures[f"val/degraded/{name}"] == figures[f"val/{name}"] == expected, name

    # Those shown are spread over the degraded side's quality.
    examples = [
        metrics.si_sdr(p.degraded[0, 0], p.clean[0, 0]).item()
        for p in run.validation.excerpts.values()
    ]
    everything = run.validation.degraded_figures["degraded/si_sdr"]
    assert examples == sorted(examples)
    assert everything.min() <= examples[0] < everything.median() < examples[-1] <= everything.max()


def test_a_missing_package_is_one_line_at_the_start_and_all_else_is_measured(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    run = start(tmp_path, url)
    output = capsys.readouterr().err
    assert output.count("timbre[eval]") == 1 and "leaves out PESQ and ESTOI" in output
    figures = measure(run)
    assert not any("pesq" in name or "estoi" in name for name in figures)
    assert figures["val/score"] == pytest.approx(1, abs=1e-3)
    run.close()


def test_pairs_are_heard_and_seen_under_their_keys_and_what_stays_is_written_once(
    url: str, tmp_path: Path
) -> None:
    run = start(tmp_path, url, "validation.shown_pairs=2")
    for _ in range(2):
        run.validate()
        run.gan.step += 1
    keys = list(run.validation.excerpts)
    run.close()
    events = EventAccumulator(str(tmp_path / "run/tensorboard"), {"images": 9, "audio": 9})
    events.Reload()
    assert len(keys) == 2
    assert set(events.Tags()["audio"]) == {
        f"pair/{key}/{side}" for key in keys for side in ("degraded", "restored", "clean")
    }
    assert set(events.Tags()["images"]) == {f"pair/{key}/degraded_restored_clean" for key in keys}
    for key in keys:
        for side, times in [("degraded", 1), ("restored", 2), ("clean", 1)]:
            assert len(events.Audio(f"pair/{key}/{side}")) == times
        assert len(events.Images(f"pair/{key}/degraded_restored_clean")) == 2
        assert events.Images(f"pair/{key}/degraded_restored_clean")[0].height == 3 * 256 + 2 * 2


def test_an_unreadable_pair_is_told_by_shard_and_key(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4], [3])
    run = start(tmp_path, url)
    spoil_pair(url, 1)
    with pytest.raises(
        ShardError, match=r"val/shard-000000\.tar: pair val-000000-0001 cannot be read"
    ):
        measure(run)
    run.close()


def test_a_missing_or_foreign_index_is_told_at_the_start(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4], [3, 2])
    index = tmp_path / "shards/val/shard-000001.index"
    data = index.read_bytes()
    index.unlink()
    with pytest.raises(FileNotFoundError, match=r"shard-000001\.index"):
        start(tmp_path, url)
    index.write_bytes(data)
    manifest = shards.load_manifest(url)
    lying = tuple(dataclasses.replace(shard, pairs=4) for shard in manifest.splits["val"])
    change_manifest(url, splits={**manifest.splits, "val": lying})
    with pytest.raises(ShardError, match=r"shard-000000\.index: 3 pairs, but the manifest says 4"):
        start(tmp_path, url)


def test_every_pair_of_several_corpora_has_one_place(url: str, tmp_path: Path) -> None:
    other = make_shards(tmp_path / "other", [2], [1, 4])
    corpora = [open_corpus(DataSource(u), "val") for u in (url, other)]
    places = [(place.folder, place.entry.key) for place in PairList(corpora)]
    assert places == [
        (corpus.folder, entry.key)
        for corpus in corpora
        for shard in corpus.shards
        for entry in shards.load_index(corpus.folder, shard).pairs
    ]
    assert len(set(places)) == 10


@pytest.mark.parametrize(("total", "count"), [(5, 0), (5, 1), (5, 5), (5, 9), (100, 16), (17, 16)])
def test_a_spread_is_that_many_different_numbers_at_about_equal_distances(
    total: int, count: int
) -> None:
    numbers = spread(total, count)
    assert len(set(numbers)) == len(numbers) == min(total, count)
    assert all(0 <= number < total for number in numbers)
    gaps = np.diff(numbers)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
