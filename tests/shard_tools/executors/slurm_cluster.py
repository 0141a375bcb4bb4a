"""A real Slurm cluster of one node in a temporary folder: munged, slurmctld and slurmd."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
PATIENCE_SECONDS = 60

# No cgroups, no systemd, no task binding; requeued tasks start after seconds and not minutes
# (cred_expire, 5 at least), and the scheduler looks every second.
CONFIG = """
ClusterName=timbre
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
KillWait=1
JobRequeue=1
ReturnToService=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} RealMemory=64000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=10 State=UP
"""


class Slurm(NamedTuple):
    """A running cluster; ``folder`` is where its jobs start and leave their logs."""

    folder: Path
    config: Path

    def run(self, *words: object, **variables: str) -> str:
        """Return what a command of Slurm (or any other) prints, with ``variables`` set for it."""
        return subprocess.run(
            [str(word) for word in words],
            cwd=self.folder,
            env=os.environ | {"SLURM_CONF": str(self.config)} | variables,
            stdout=subprocess.PIPE, text=True, timeout=2 * PATIENCE_SECONDS, check=True,
        ).stdout  # fmt: skip

    def submit(self, words: list[object], **variables: str) -> int:
        """Return the number of the job that ``sbatch *words`` starts."""
        return int(self.run("sbatch", "--parsable", *words, **variables))

    def wait(self, job: int) -> dict[int, str]:
        """Return the state of every task of a job array once all of them have ended."""
        tasks = self.wait_for(job)
        return {int(task["ArrayTaskId"]): task["JobState"] for task in tasks}

    def wait_for(self, job: int) -> list[dict[str, str]]:
        """Return what Slurm tells of a job, or of each task of an array, once it has ended."""
        self.run("srun", "--quiet", f"--dependency=afterany:{job}", "true")
        lines = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]


def missing_programs() -> str | None:
    """Return the programs of Slurm that are missing here, or None."""
    missing = [program for program in PROGRAMS if not shutil.which(program, path=_search_path())]
    message = f"missing: {' '.join(missing)} (packages slurmctld slurmd slurm-client munge)"
    return message if missing else None


def reason_to_skip() -> str | None:
    """Return why tests of Slurm are skipped here, None if they are not.

    Where CI=true they are not skipped for want of Slurm, they fail: nobody reads what CI skipped.
    """
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    return None if os.environ.get("CI") == "true" else missing_programs()


@contextmanager
def slurm_cluster(folder: Path, processors: int = 4, gpus: int = 2) -> Iterator[Slurm]:
    """Give a cluster of one node that believes it has these; end it and its jobs."""
    if missing := missing_programs():
        pytest.fail(missing)
    for name in ("state", "spool", "jobs"):
        (folder / name).mkdir()
    config = folder / "slurm.conf"
    controller_port, node_port = _free_ports()
    host = socket.gethostname()
    config.write_text(CONFIG.format(**locals()))
    # Devices that are there: Slurm asks for no more of a GPU.
    devices = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random"][:gpus]
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={path}\n" for path in devices))
    slurm = Slurm(folder / "jobs", config)
    environment = os.environ | {"SLURM_CONF": str(config), "PATH": _search_path()}
    munge = _munge_command(folder)
    subprocess.run(munge, check=True)  # returns when it is ready
    daemons = []
    try:
        for words in (["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            output = (folder / f"{words[0]}.out").open("w")
            daemons.append(subprocess.Popen(words, env=environment, stdout=output, stderr=output))
        _until(lambda: _answers(slurm, "sinfo", "-ho", "%T") == "idle", folder)
        yield slurm
        _until(lambda: _no_jobs(slurm), folder)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()
        subprocess.run([*munge, "--stop"], check=False)


def _munge_command(folder: Path) -> list[str]:
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    places = {"key": "key-file", "socket": "socket", "pid": "pid-file", "log": "log-file"}
    program = shutil.which("munged", path=_search_path()) or "munged"
    options = [f"--{option}={folder}/munge.{name}" for name, option in places.items()]
    return [program, "--force", f"--seed-file={folder}/munge.seed", *options]


def _no_jobs(slurm: Slurm) -> bool:
    slurm.run("scancel", "--quiet", "--user=root")
    return slurm.run("squeue", "--noheader") == ""


def _answers(slurm: Slurm, *words: str) -> str | None:
    try:
        return slurm.run(*words).strip()
    except subprocess.CalledProcessError:
        return None


def _until(ready: Callable[[], bool], folder: Path) -> None:
    """Ask again and again: Slurm's daemons do not tell when they are ready."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            logs = (*folder.glob("*.out"), *folder.glob("*.log"))
            tails = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs)
            raise TimeoutError(f"Slurm does not get ready; its logs:\n{tails}")
        time.sleep(0.1)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _search_path() -> str:
    """Daemons lie where not every user's shell looks."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


needs_slurm = pytest.mark.skipif(reason_to_skip() is not None, reason=str(reason_to_skip()))
