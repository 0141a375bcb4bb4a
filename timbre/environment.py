"""The environment of this process and of its children; how many threads they take, and how these wait."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from timbre.cores import granted_cores

THREADS = "OMP_NUM_THREADS"
# Either of them says how many threads torch takes.
SAYS_THREADS = (THREADS, "MKL_NUM_THREADS")
# Threads of OpenMP spin while they wait, unless told otherwise. Beside other work, or under a
# cgroup's quota, that made training seven times slower: docs/install.md.
PASSIVE_WAIT = {"OMP_WAIT_POLICY": "PASSIVE"}
GOOGLE_CREDENTIALS = "GOOGLE_APPLICATION_CREDENTIALS"
NO_TELEMETRY = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
# torchrun sets the first, `accelerate launch` the second.
LAUNCHER_VARIABLES = ("TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_MODE")
# The option of `accelerate launch` that says how many threads a rank takes.
LAUNCHERS_OPTION = b"--num_cpu_threads_per_process"


def settle_threads() -> None:
    """Let torch take the threads that the machine grants, and let them sleep while they wait.

    OpenMP reads its variables once, as torch loads it: call this before torch is imported. What the
    user has set stays. The ranks of one launcher share the cores of their node.
    """
    os.environ.update(_without_set(PASSIVE_WAIT))
    if not any(_is_set_by_user(name) for name in SAYS_THREADS):
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        os.environ[THREADS] = str(max(granted_cores() // ranks, 1))


def forbid_telemetry() -> None:
    """Let gradio, which reads this as it is imported, send nothing about its use anywhere."""
    os.environ.update(NO_TELEMETRY)


def cache_folder() -> Path:
    """Return where this user's programs keep what can be made again; it need not exist.

    Raises:
        RuntimeError: the user has no home folder.
    """
    cache_home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache_home if cache_home.is_absolute() else Path.home() / ".cache") / "timbre"


def google_credentials() -> Path | None:
    """Return which file of credentials Google's libraries are to use, if one was named."""
    name = os.environ.get(GOOGLE_CREDENTIALS)
    return Path(name) if name else None


def is_first_of_node() -> bool:
    """Return whether this is the first rank of its node, or no rank at all."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def inherit(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile; what the user set stays."""
    names = _without_set(variables)
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


def _without_set(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in os.environ}


def _is_set_by_user(name: str) -> bool:
    """Return whether the user set a variable, rather than the launcher of this rank.

    torchrun and `accelerate launch` set OMP_NUM_THREADS where the user has not, to 1 or to all cores
    that the machine has. The launcher's own environment shows which.
    """
    if name not in os.environ or not any(variable in os.environ for variable in LAUNCHER_VARIABLES):
        return name in os.environ
    launcher = Path("/proc", str(os.getppid()))
    try:
        settings = (launcher / "environ").read_bytes().split(b"\0")
        options = (launcher / "cmdline").read_bytes()
    except OSError:  # not Linux: nobody can say
        return True
    is_set = any(setting.startswith(f"{name}=".encode()) for setting in settings)
    return is_set or LAUNCHERS_OPTION in options
