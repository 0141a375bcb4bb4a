"""Training by Slurm and by the program of Kubernetes' indexed job: stopped from outside, it goes on."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.help.made_shards import make_shards
from tests.shard_tools.executors.slurm_cluster import Slurm, needs_slurm
from tests.train.distributed.test_ranks import write_config
from timbre.models import checkpoint
from timbre.train import checkpoints

ROOT = Path(__file__).parents[2]
SBATCH = ROOT / "launch/slurm/train.sbatch"
KUBERNETES = ROOT / "launch/kubernetes"
# All of these know what the manifests say.
SCHEMAS = ("1.29", kubernetes_validate.latest_version())
PATIENCE_SECONDS = 60
# What the test cluster has to give.
SMALL = ("--gpus-per-node=2", "--cpus-per-task=2", "--time=10")
# Saved at once, and often enough that a run is stopped long before its end.
OFTEN = ("log_every=1", "save_every=2", "validate_every=1000", "workers=0")
OFTEN += ("validation={perceptual_pairs: 0, harm_pairs: 0, shown_pairs: 0}",)

# Instead of accelerate: the first run says that it has begun, and lasts until a rank is told to save.
STAND_IN = """#!{python}
import os, pathlib, signal, sys
records, restarts = pathlib.Path(os.environ["RECORDS"]), os.environ.get("SLURM_RESTART_COUNT", "0")
(records / f"{{restarts}}.words").write_text("\\n".join(sys.argv[1:]))
if restarts == "0":
    (records / "inherited").write_text(signal.getsignal(signal.SIGUSR1).name)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    (records / "began").write_text("began")
    signal.pause()
    signal.pause()  # a rank that was not ready for the first
    (records / "saved").write_text("saved")
"""


def environment() -> dict[str, str]:
    """Accelerate from this environment, and ranks on processors, where there are no GPUs."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def wait_for_checkpoint(run_dir: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while checkpoints.latest(str(run_dir)) is None:
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.1)  # files tell nobody that they have appeared


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


@needs_slurm
def test_a_job_that_is_preempted_comes_back_by_itself_and_loses_nothing(
    slurm: Slurm, tmp_path: Path
) -> None:
    url = make_shards(tmp_path / "shards", [7, 7, 7], [2])
    config = write_config(tmp_path, url, "steps=12", *OFTEN)
    log = tmp_path / "job.log"
    options = [*SMALL, f"--chdir={ROOT}", f"--output={log}"]
    job = slurm.submit([*options, SBATCH, config], **environment())
    wait_for_checkpoint(tmp_path / "run")
    slurm.run("scontrol", "requeue", job)  # what preemption does
    (record,) = slurm.wait_for(job)
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1"), log.read_text()[-3000:]
    checkpoint_url = checkpoints.latest(str(tmp_path / "run"))
    assert checkpoint_url is not None
    state = checkpoint.load(checkpoint_url)
    assert state["gan"]["step"] == 12
    # An epoch is 3 steps of 6 of the 21 pairs: 12 steps end with the fourth.
    assert (state["stream"]["epoch"], state["stream"]["sample_in_epoch"]) == (3, 18)
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert [each.step for each in events.Scalars("g/loss")] == list(range(1, 13))
    assert "resuming at step" in log.read_text()


@needs_slurm
def test_before_its_time_is_up_a_job_saves_and_queues_itself_again(
    slurm: Slurm, tmp_path: Path
) -> None:
    program = tmp_path / "bin/accelerate"
    program.parent.mkdir()
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    os.mkfifo(tmp_path / "began")
    began = os.open(tmp_path / "began", os.O_RDWR)
    variables = {"PATH": f"{program.parent}:{os.environ['PATH']}", "RECORDS": str(tmp_path)}
    options = [*SMALL, f"--output={tmp_path}/job.log"]
    job = slurm.submit([*options, SBATCH, "a folder/train.yaml", "seed=3"], **variables)
    assert select.select([began], [], [], PATIENCE_SECONDS)[0], "did not start"
    os.close(began)
    slurm.run("scancel", "--batch", "--signal=USR1", job)  # what Slurm does by --signal
    (record,) = slurm.wait_for(job)
    assert (record["JobState"], record["Restarts"]) == ("COMPLETED", "1")
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "inherited").read_text() == "SIG_IGN"  # a launcher outlives the signal
    words = (tmp_path / "1.words").read_text().splitlines()
    assert words == (tmp_path / "0.words").read_text().splitlines()
    assert words[:3] == ["launch", "--machine_rank", "0"]
    assert {("--num_machines", "1"), ("--num_processes", "2")} <= set(pairwise(words))
    assert words[-4:] == ["-m", "timbre.train", "a folder/train.yaml", "seed=3"]


@pytest.mark.parametrize("name", sorted(path.name for path in KUBERNETES.iterdir()))
def test_kubernetes_knows_every_field_of_the_manifests(name: str) -> None:
    for document in documents(name):
        for schema in SCHEMAS:
            kubernetes_validate.validate(document, schema, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        document["spec"]["template"]["spec"]["subdomian"] = "timbre"
        kubernetes_validate.validate(document, SCHEMAS[0], strict=True)


def test_the_pods_of_the_training_job_plan_for_all_and_find_each_other_by_name(
    tmp_path: Path,
) -> None:
    service, job = documents("train.yaml")
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (plan,), (container,) = pod["initContainers"], pod["containers"]
    assert plan["env"] == container["env"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    name, subdomain = job["metadata"]["name"], pod["subdomain"]
    assert subdomain == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert variables["MASTER_ADDR"] == f"{name}-0.{subdomain}"
    assert spec["completions"] == spec["parallelism"] == int(variables["NODES"])
    assert variables["GPUS"] == container["resources"]["limits"]["nvidia.com/gpu"]
    program = tmp_path / "timbre"
    program.write_text('#!/bin/bash\necho "$@"\n')
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    output = subprocess.check_output(plan["command"], env=variables | path, text=True)
    assert output.split() == ["train", "/config/train.yaml", "--dry-run", "--ranks", "16"]
    mounts = {each["name"] for each in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_when_one_pod_is_to_go_all_save_end_and_are_not_taken_for_finished(
    tmp_path: Path,
) -> None:
    """Two pods of one rank each, as processes; what a kubelet would mount lies in a folder."""
    url = make_shards(tmp_path / "shards", [7, 7, 7], [2])
    shutil.move(write_config(tmp_path, url, "steps=9999", *OFTEN), tmp_path / "train.yaml")
    shutil.copy(ROOT / "launch/accelerate/many_nodes.yaml", tmp_path)
    (container,) = documents("train.yaml")[1]["spec"]["template"]["spec"]["containers"]
    pod_variables = {each["name"]: each["value"] for each in container["env"]}
    pod_variables |= {"NODES": "2", "GPUS": "1", "MASTER_ADDR": "127.0.0.1"}
    words = [word.replace("/config/", f"{tmp_path}/") for word in container["command"]]
    pods = []
    try:
        for number in ("0", "1"):
            variables = (
                os.environ | environment() | pod_variables | {"JOB_COMPLETION_INDEX": number}
            )
            log = (tmp_path / f"{number}.log").open("w")
            pods.append(subprocess.Popen(words, cwd=ROOT, env=variables, stderr=log))
        wait_for_checkpoint(tmp_path / "run")
        pods[1].send_signal(signal.SIGTERM)
        codes = [pod.wait(timeout=PATIENCE_SECONDS) for pod in pods]
    finally:
        for pod in pods:
            pod.terminate()
    log = (tmp_path / "0.log").read_text()
    assert codes == [1, 1], log
    checkpoint_url = checkpoints.latest(str(tmp_path / "run"))
    assert checkpoint_url is not None
    step = checkpoint.load(checkpoint_url)["gan"]["step"]
    assert 2 <= step < 9999
    assert f"interrupted: saved at step {step}; the same command continues" in log
