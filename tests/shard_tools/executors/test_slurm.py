"""launch/slurm/prep.sbatch in a real Slurm cluster, and what Kubernetes' indexed job and Ray run.

Instead of timbre, a program that writes down its arguments and its environment is run.
"""

import os
import select
import subprocess
from pathlib import Path
from typing import NamedTuple

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from shard_tools.executors.share import Share, find_share
from tests.shard_tools.executors.slurm_cluster import Slurm, needs_slurm
from timbre.errors import ConfigError

ROOT = Path(__file__).parents[3]
SBATCH = ROOT / "launch/slurm/prep.sbatch"
KUBERNETES = ROOT / "launch/kubernetes/prep.yaml"
RAY = ROOT / "launch/ray/prep.sh"
RAY_CLUSTER = ROOT / "launch/ray/cluster.yaml"

# The first run of the task that HOLD names says so and then lasts until it is killed.
STAND_IN = """#!/bin/bash
run="$RECORDS/${SLURM_ARRAY_TASK_ID:-$JOB_COMPLETION_INDEX}.${SLURM_RESTART_COUNT:-0}"
env -0 > "$run.environment"
printf '%s\\0' "$@" > "$run.words"
if [ "${HOLD:-none}" = "$SLURM_ARRAY_TASK_ID" ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
    echo began > "$RECORDS/held"
    exec sleep infinity
fi
"""


class Run(NamedTuple):
    """One run of the stand-in: its arguments and its environment."""

    words: list[str]
    environment: dict[str, str]

    def share(self, monkeypatch: pytest.MonkeyPatch) -> Share:
        """Return the share that timbre would have found in its place."""
        with monkeypatch.context() as patch:
            for name in list(os.environ):
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return find_share(None)


@pytest.fixture
def with_stand_in(tmp_path: Path) -> dict[str, str]:
    """Variables under which the stand-in is what the name timbre means."""
    program = tmp_path / "bin/timbre"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    (tmp_path / "records").mkdir()
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"PATH": path, "RECORDS": str(tmp_path / "records")}


def read_runs(folder: Path) -> dict[str, Run]:
    """Return what was written down of every run, by ``TASK.RESTARTS``."""
    runs = {}
    for path in folder.glob("records/*.words"):
        words = path.read_text().split("\0")[:-1]
        lines = path.with_suffix(".environment").read_text().split("\0")[:-1]
        runs[path.stem] = Run(words, dict(line.split("=", 1) for line in lines))
    return runs


@needs_slurm
def test_an_array_makes_each_share_once(
    slurm: Slurm, with_stand_in: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = slurm.submit(
        ["--array=0-4", "--cpus-per-task=2", SBATCH, "a folder/prep.yaml", "seed=3"],
        **with_stand_in,
    )
    assert slurm.wait(job) == dict.fromkeys(range(5), "COMPLETED")
    runs = read_runs(tmp_path)
    shares = {name: run.share(monkeypatch) for name, run in runs.items()}
    assert shares == {f"{task}.0": Share(task, 5) for task in range(5)}
    for run in runs.values():
        assert run.words == [
            "prep",
            "a folder/prep.yaml",
            "seed=3",
            "workers=2",
            "--executor",
            "array",
        ]


@needs_slurm
def test_a_part_of_an_array_keeps_its_shares_or_is_refused(
    slurm: Slurm, with_stand_in: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--array=3,7", "--cpus-per-task=1", SBATCH, "prep.yaml"]
    assert set(slurm.wait(slurm.submit(words, **with_stand_in)).values()) == {"COMPLETED"}
    for run in read_runs(tmp_path).values():
        with pytest.raises(ConfigError, match="TIMBRE_SHARES=N"):
            run.share(monkeypatch)
    slurm.wait(slurm.submit(words, TIMBRE_SHARES="10", **with_stand_in))
    shares = {name: run.share(monkeypatch) for name, run in read_runs(tmp_path).items()}
    assert shares == {"3.0": Share(3, 10), "7.0": Share(7, 10)}


@needs_slurm
def test_a_task_that_is_requeued_makes_the_same_share_again(
    slurm: Slurm, with_stand_in: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "records/held")
    lock = os.open(tmp_path / "records/held", os.O_RDWR)
    words = ["--array=0-2", "--cpus-per-task=1", SBATCH, "prep.yaml"]
    job = slurm.submit(words, HOLD="1", **with_stand_in)
    assert select.select([lock], [], [], 60)[0], "task 1 did not start"
    os.close(lock)
    slurm.run("scontrol", "requeue", f"{job}_1")  # what preemption does
    assert slurm.wait(job) == dict.fromkeys(range(3), "COMPLETED")
    runs = read_runs(tmp_path)
    assert sorted(runs) == ["0.0", "1.0", "1.1", "2.0"]
    assert runs["1.1"].words == runs["1.0"].words
    assert runs["1.1"].share(monkeypatch) == runs["1.0"].share(monkeypatch) == Share(1, 3)


def test_every_pod_of_the_indexed_job_makes_its_share(
    with_stand_in: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = yaml.safe_load(KUBERNETES.read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["completionMode"] == "Indexed"
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    shares = job["spec"]["completions"]
    assert variables["TIMBRE_SHARES"] == str(shares)
    assert f"workers={container['resources']['requests']['cpu']}" in container["command"]
    assert {each["name"] for each in container["volumeMounts"]} == {
        v["name"] for v in pod["volumes"]
    }
    for number in range(shares):
        environment = {**variables, **with_stand_in, "JOB_COMPLETION_INDEX": str(number)}
        subprocess.run(container["command"], env=environment, check=True)
    runs = read_runs(tmp_path)
    shares_of_pods = {name: run.share(monkeypatch) for name, run in runs.items()}
    assert shares_of_pods == {f"{number}.0": Share(number, shares) for number in range(shares)}
    for run in runs.values():
        assert run.words[:2] == ["prep", "/config/prep.yaml"]
        assert run.words[-2:] == ["--executor", "array"]


def test_the_ray_launcher_passes_its_arguments_on(
    with_stand_in: dict[str, str], tmp_path: Path
) -> None:
    environment = {**with_stand_in, "JOB_COMPLETION_INDEX": "0"}
    subprocess.run([RAY, "a folder/prep.yaml", "workers=64"], env=environment, check=True)
    (run,) = read_runs(tmp_path).values()
    assert run.words == ["prep", "a folder/prep.yaml", "workers=64", "--executor", "ray"]


def test_ray_knows_every_field_of_the_cluster_and_every_option_of_its_commands() -> None:
    cluster = yaml.safe_load(RAY_CLUSTER.read_text())
    config = prepare_config(cluster)
    validate_config(config)
    assert config["max_workers"] == len(cluster["provider"]["worker_ips"])
    for kind in ("head", "worker"):
        stop, words = (line.split() for line in config[f"{kind}_start_ray_commands"])
        assert stop == ["ray", "stop"] and words[:2] == ["ray", "start"]
        options = start.make_context("start", words[2:]).params
        assert options["head"] == (kind == "head")
        assert options["address"] == (None if kind == "head" else "$RAY_HEAD_IP:6379")
    with pytest.raises(jsonschema.ValidationError, match="worker_iips"):
        validate_config(prepare_config({**cluster, "worker_iips": []}))
