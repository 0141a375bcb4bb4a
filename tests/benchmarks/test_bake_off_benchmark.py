"""The bake-off of generators gives both the same CPU time, and runs end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bake_off.__main__ import plan_runs
from benchmarks.bake_off.plan import Cost, Setting, cpu_seconds, fewest_steps, phases, steps_for
from tests.conftest import ROOT
from tests.help.made_shards import make_shards
from timbre import config as configs
from timbre.train.config import TrainConfig

COSTS = {
    "spectral": Cost(0.7, 1.9, 2.8, 40.0, 6.0),
    "wave": Cost(1.3, 2.6, 4.1, 55.0, 6.0),
}
EPOCH, VALIDATIONS = 90, 7
EPOCHS = 5  # of reconstruction, which the config demands


@pytest.mark.parametrize("minutes", [60.0, 91.5, None])
def test_steps_of_both_are_the_most_that_cost_no_more_than_the_same_minutes(
    minutes: float | None,
) -> None:
    steps = steps_for(minutes, COSTS, EPOCH, VALIDATIONS)
    costs = {name: cpu_seconds(steps[name], cost, VALIDATIONS) for name, cost in COSTS.items()}
    budget = max(costs.values()) if minutes is None else 60 * minutes
    for name, cost in COSTS.items():
        assert costs[name] <= budget < cpu_seconds(steps[name] + 1, cost, VALIDATIONS)
        assert phases(steps[name]).reconstruction >= EPOCHS * EPOCH
    if minutes is None:
        assert steps["wave"] == fewest_steps(EPOCH)


def test_a_run_costs_what_its_steps_validations_and_start_cost() -> None:
    plan = phases(1000)
    cost = Cost(1.0, 10.0, 100.0, 1e4, 1e5)
    full = 1000 - plan.reconstruction - plan.discriminator
    by_hand = plan.reconstruction + 10 * plan.discriminator + 100 * full + 3e4 + 1e5
    assert cpu_seconds(1000, cost, 3) == pytest.approx(by_hand)
    assert 0 < plan.ramp < full


def test_too_few_minutes_are_refused_with_the_fewest_that_do() -> None:
    least = cpu_seconds(fewest_steps(EPOCH), COSTS["wave"], VALIDATIONS) / 60
    with pytest.raises(ValueError, match=f"at least {least:.1f}"):
        steps_for(least - 0.1, COSTS, EPOCH, VALIDATIONS)


def test_costs_that_were_measured_before_are_planned_with_and_only_the_generators_differ(
    tmp_path: Path,
) -> None:
    url = make_shards(tmp_path / "shards", [4], [1])
    costs = {name: cost._asdict() for name, cost in COSTS.items()}
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    plan_runs(Setting(url, str(tmp_path), 10, "tiny", 2, 0.2, 1e-3, VALIDATIONS, 0, 1))
    trees = {}
    for name, steps in steps_for(10, COSTS, 2, VALIDATIONS).items():
        tree = configs.to_tree(configs.load(TrainConfig, tmp_path / f"{name}.yaml"))
        assert tree["steps"] == steps
        assert tree["generator"].pop("name") == name
        assert tree["adversarial"]["start_step"] == phases(steps).reconstruction
        differences = ("adversarial", "steps", "run_dir", "log_every", "log_gradients_every")
        for key in (*differences, "validate_every", "save_every"):
            del tree[key]
        del tree["optimizer"]["warmup_steps"]
        trees[name] = tree
    assert trees["spectral"] == trees["wave"]


def test_both_generators_are_trained_and_compared_over_cpu_time(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [2], [1])
    runs = tmp_path / "runs"
    command = [sys.executable, "-m", "benchmarks.bake_off", url, str(runs), "--quick"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    values = {(line["case"], line["metric"]): line["value"] for line in lines if "case" in line}
    assert values["deepfilternet3", "val/si_sdr"] > 0
    for name in ("spectral", "wave"):
        events = list((runs / name / "tensorboard").iterdir())
        assert len(events) == 1
        assert values[name, "val/score"] > 0
        assert 0 <= values[name, "d/accuracy"] <= 1  # the adversarial phase was reached
        clock = [json.loads(line) for line in (runs / f"{name}.clock").read_text().splitlines()]
        assert [cpu for _, cpu in clock] == sorted(cpu for _, cpu in clock)
        # What was seen of the living process and what the kernel tells at its end are one clock.
        assert clock[-2][1] == pytest.approx(clock[-1][1], rel=0.5)
        assert values[name, "spent"] == pytest.approx(clock[-1][1] / 60, rel=1e-3)
    for figure in ("mel_distance", "lsd_0_8k", "lsd_8_24k"):
        assert lines[-1]["ratios"][f"wave/{figure}_left"] > 0
    assert (runs / "curves.png").read_bytes().startswith(b"\x89PNG")
