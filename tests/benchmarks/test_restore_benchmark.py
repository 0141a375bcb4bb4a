"""The benchmark of restoring times every side in both ways and prints their ratios."""

import json

import pytest

from benchmarks import restore
from benchmarks.restore_sides import (
    hop_sides,
    models,
    other_denoisers,
    rust_installed,
    whole_sides,
)
from tests.help.official_deepfilternet import INSTALLED
from timbre.models.generator import GeneratorConfig

OURS = {"denoiser", "restorer", "chain"}


def test_every_side_is_timed_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(restore, "HOPS_A_TURN", 6)
    networks = models(GeneratorConfig("spectral", "tiny", True, True))
    rust = {"official_rust"} if rust_installed() else set()
    python = {"official_python"} if INSTALLED else set()
    hops = restore.time_hops(hop_sides(networks, onnx=False), rounds=2)
    whole = restore.time_whole(whole_sides(networks, onnx=False), rounds=2, seconds=1)
    behind = {f"chain_behind_{name}" for name in other_denoisers()}
    assert hops.keys() == OURS | rust | (behind - {"chain_behind_gate"})
    assert whole.keys() == OURS | rust | python | behind
    assert all(len(calls) == 12 for calls in hops.values())
    assert all(len(calls) == 2 for calls in whole.values())
    speeds = {name: restore.report_hops(name, calls) for name, calls in hops.items()}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    values = {(line["case"], line["metric"]): line["value"] for line in lines}
    for name, calls in hops.items():
        mean = 1e3 * sum(call.wall for call in calls) / len(calls)
        assert values[f"live/{name}", "mean per hop"] == pytest.approx(mean, rel=1e-3)
        assert (
            values[f"live/{name}", "99th percentile per hop"]
            >= values[f"live/{name}", "median per hop"]
        )
        assert values[f"live/{name}", "speed in CPU time"] == pytest.approx(speeds[name], rel=1e-3)


def test_ratios_hold_the_denoiser_against_the_official_ones() -> None:
    speeds = {"denoiser": 30.0, "restorer": 20.0, "chain": 12.0, "official_rust": 15.0}
    speeds["chain_behind_rnnoise"] = 24.0
    assert restore.compare(speeds) == {
        "chain_x_real_time": 12.0,
        "denoiser_to_official_rust": 2.0,
        "chain_behind_rnnoise_cost": 0.5,
    }
