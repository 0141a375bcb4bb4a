"""Launch files for JobSet, Kubeflow, SkyPilot and pyxis: known fields, and the ranks that they start."""

import os
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubeflow_trainer_api.models as schemas
import kubernetes_validate
import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
# Says with which words it was started, a line each.
STAND_IN = '#!/bin/bash\nprintf "%s\\n" "$(basename "$0")" "$@"\n'
ACCELERATE = ["accelerate", "launch", "--config_file"]


def document(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((LAUNCH / name).read_text())
    return tree


def started(folder: Path, words: list[str], **variables: str) -> list[str]:
    """Return what a program starts, by stand-ins for accelerate and Slurm's programs."""
    for name in ("accelerate", "srun", "scontrol"):
        (folder / name).write_text(STAND_IN)
        (folder / name).chmod(0o755)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.check_output(words, env=variables | path, text=True).splitlines()


def pod_of(job_set: dict[str, Any]) -> dict[str, Any]:
    (job,) = job_set["spec"]["replicatedJobs"]
    pod: dict[str, Any] = job["template"]["spec"]["template"]
    return pod


def unknown_field(tree: dict[str, Any]) -> None:
    tree["spec"]["numNode"] = 2


def wrong_type(tree: dict[str, Any]) -> None:
    tree["spec"]["suspend"] = "no"


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("jobset/train.yaml", schemas.JobsetV1alpha2JobSet),
        ("kubeflow/train.yaml", schemas.TrainerV1alpha1TrainJob),
    ],
)
def test_the_schemas_know_every_field(name: str, schema: Any) -> None:
    """What a schema does not know is lost on the way through it; what is missing comes as None."""
    tree = document(name)
    assert schema.from_dict(tree).to_dict() == tree
    unknown_field(tree)
    assert schema.from_dict(tree).to_dict() != tree
    wrong_type(tree)
    with pytest.raises(ValueError, match="suspend"):
        schema.from_dict(tree)


def test_the_job_of_a_jobset_is_one_of_kubernetes() -> None:
    (job,) = document("jobset/train.yaml")["spec"]["replicatedJobs"]
    tree = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **job["template"]}
    kubernetes_validate.validate(tree, kubernetes_validate.latest_version(), strict=True)


def test_the_pods_of_a_jobset_find_the_first_by_name_and_start_all_ranks(tmp_path: Path) -> None:
    job_set = document("jobset/train.yaml")
    (job,) = job_set["spec"]["replicatedJobs"]
    spec, (container,) = job["template"]["spec"], pod_of(job_set)["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert spec["completions"] == spec["parallelism"] == int(variables["NODES"])
    assert variables["GPUS"] == container["resources"]["limits"]["nvidia.com/gpu"]
    name = job_set["metadata"]["name"]
    assert variables["MASTER_ADDR"] == f"{name}-{job['name']}-0-0.{name}"
    mounts = {each["name"] for each in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod_of(job_set)["spec"]["volumes"]}
    words = started(tmp_path, container["command"], JOB_COMPLETION_INDEX="1", **variables)
    assert words[:3] == ACCELERATE
    assert {("--num_processes", "16"), ("--machine_rank", "1")} <= set(pairwise(words))
    assert words[-4:] == ["-m", "timbre.train", "/config/train.yaml", "--fail-if-interrupted"]


def test_a_train_job_asks_for_as_many_gpus_as_it_starts_ranks() -> None:
    spec = document("kubeflow/train.yaml")["spec"]
    trainer, (patch,) = spec["trainer"], spec["runtimePatches"]
    assert trainer["command"] == ["torchrun", "-m", "timbre.train"]
    gpus = trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"]
    assert int(gpus) == trainer["numProcPerNode"]
    pod = pod_of({"spec": patch["trainingRuntimeSpec"]["template"]["spec"]})["spec"]
    mounts = {each["name"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_a_node_of_skypilot_starts_its_ranks(tmp_path: Path) -> None:
    task = document("skypilot/train.yaml")
    variables = {
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "8",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    }
    words = started(tmp_path, ["bash", "-c", task["run"]], **variables, **task["envs"])
    assert words[:3] == ACCELERATE
    pairs = {("--num_processes", "16"), ("--machine_rank", "1"), ("--main_process_ip", "10.0.0.1")}
    assert pairs <= set(pairwise(words))
    assert f"data=[{{manifest: {task['envs']['DATA']}}}]" in words


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({}, []),
        (
            {"CONTAINER": "/a b/timbre.sqsh", "CONTAINER_MOUNTS": "/data:/data"},
            ["--container-image=/a b/timbre.sqsh", "--container-mounts=/data:/data"],
        ),
    ],
)
def test_slurm_starts_ranks_in_a_container_where_one_is_named(
    tmp_path: Path, variables: dict[str, str], options: list[str]
) -> None:
    slurm = {
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_GPUS_ON_NODE": "2",
        "SLURM_JOB_ID": "7",
    }
    script = str(LAUNCH / "slurm/train.sbatch")
    words = started(tmp_path, ["bash", script, "train.yaml"], **slurm, **variables)
    assert words[0] == "srun"
    containers = [word for word in words if word.startswith("--container-")]
    assert [word for word in containers if not word.startswith("--container-workdir")] == options
    assert words[-3:] == ["-m", "timbre.train", "train.yaml"]
