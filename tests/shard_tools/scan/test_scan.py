"""A scan: every file is measured once, whoever scans."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from shard_tools.executors.local import run_local
from shard_tools.executors.share import Share
from shard_tools.scan import parts, scan
from shard_tools.scan.scan import PARTS
from timbre import audio
from timbre import config as configs
from timbre.storage import files as storage


@pytest.fixture
def config(tmp_path: Path) -> PrepConfig:
    rng = np.random.default_rng(0)
    for role, count in [("speech", 12), ("noise", 2)]:
        for number in range(count):
            wave = rng.standard_normal(9_600).astype(np.float32) / 9
            audio.write(tmp_path / role / f"s{number % 3}/{number:02d}.wav", wave, 48_000)
    tree = {
        **{role: f"{tmp_path}/{role}" for role in ("speech", "noise")},
        "output": f"{tmp_path}/out",
        "workers": 1,
        "clips": {"min_bandwidth_hz": 0.0},
    }
    return configs.from_tree(PrepConfig, tree, "test")


def test_a_scan_measures_nothing_twice(
    config: PrepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FILES_PER_PART", 2)
    first = scan.scan(config, run_local, Share(0, 1))
    names = set(storage.find_below(f"{config.output}/{PARTS}"))
    assert len(names) > 4
    stamps = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / PARTS).iterdir()}
    assert scan.scan(config, run_local, Share(0, 1)) == first
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / PARTS).iterdir()} == stamps
    name = sorted(names)[0]
    storage.remove(f"{config.output}/{PARTS}/{name}")
    assert scan.scan(config, run_local, Share(1, 3)) == first


def test_shares_of_a_scan_begin_apart_and_end_alike(
    config: PrepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "FILES_PER_PART", 2)
    starts = []

    def run_one(
        work: object, tasks: list[parts.SourcePart], workers: int, *, gpu: bool
    ) -> Iterator[object]:
        assert not gpu
        starts.append(tasks[0].name)
        return iter(run_local(work, tasks, workers))  # type: ignore[arg-type]

    results = []
    for index in range(3):
        own = configs.from_tree(
            PrepConfig, {**configs.to_tree(config), "output": f"{tmp_path}/{index}"}, "test"
        )
        results.append(scan.scan(own, run_one, Share(index, 3)))
    assert results[0] == results[1] == results[2]
    assert len(set(starts)) == 3
