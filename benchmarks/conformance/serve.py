"""Loaders opened for scenarios: `python -m benchmarks.conformance.serve MODULE`, an adapter's.

Each line of standard input is a request, a JSON object; each is answered by a line that begins with
``ANSWER``. Every rank is a process of its own, forked from this one, which has imported the loader.
Nothing of ours: the peers' interpreter runs it too.
"""

import base64
import json
import os
import pickle
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from importlib.metadata import version
from itertools import islice
from typing import Any

from benchmarks.conformance.adapter import Loader, Setup

ANSWER = "@answer "
# A rank that says nothing for so long hangs.
DEADLINE_SECONDS = 120.0


def main() -> None:
    """Answer requests until there are no more."""
    adapter = import_module(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        answer = DO[request.pop("do")](adapter, **request)
        sys.stdout.write(f"\n{ANSWER}{json.dumps(answer)}\n")
        sys.stdout.flush()


def describe(adapter: Any) -> dict[str, Any]:
    """Return the loader's version, and what it lacks."""
    return {
        "version": version(adapter.PACKAGE) if adapter.PACKAGE else "",
        "lacks": adapter.LACKS,
    }


def write(adapter: Any, folder: str, keys: list[list[str]]) -> None:
    """Store a corpus, in a process of its own: threads that a writer starts must not be forked."""

    def store() -> dict[str, Any]:
        adapter.write(folder, keys)
        return {}

    answer = _receive(*_fork(store))
    if "error" in answer:
        raise RuntimeError(answer["error"])


def files(adapter: Any, folder: str) -> list[str]:
    """Return the files that hold a corpus."""
    return [str(path) for path in adapter.shard_files(folder)]


def serve(
    adapter: Any, world: int, steps: int, states: list[str] | None, **setup: Any
) -> dict[str, Any]:
    """Serve all ranks; return what each was served and its state, or what went wrong."""
    port = _free_port()
    lines = []
    for rank in range(world):
        state = pickle.loads(base64.b64decode(_state_of(rank, world, states))) if states else None
        own = Setup(rank=rank, world=world, state=state, **setup)
        lines.append(_fork(partial(_serve_rank, adapter, own, steps, port)))
    answers = [_receive(*line) for line in lines]
    errors = [answer["error"] for answer in answers if "error" in answer]
    return {"error": errors[0]} if errors else {"ranks": answers}


def _state_of(rank: int, world: int, states: list[str]) -> str:
    return states[rank] if len(states) == world else states[0]


def _serve_rank(adapter: Any, setup: Setup, steps: int, port: int) -> dict[str, Any]:
    places: dict[str, object] = {
        "RANK": setup.rank,
        "LOCAL_RANK": setup.rank,
        "WORLD_SIZE": setup.world,
    }
    places |= {"LOCAL_WORLD_SIZE": setup.world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in places.items()})
    if adapter.PACKAGE and setup.world > 1:  # several of them ask PyTorch who they are
        import torch

        torch.distributed.init_process_group("gloo")
    loader: Loader = adapter.open_loader(setup)
    batches = list(islice(loader, steps))
    if len(batches) < steps:
        return {"error": f"ended after {len(batches)} of {steps} steps"}
    state = base64.b64encode(pickle.dumps(loader.state())).decode()
    noticed = loader.noticed() if hasattr(loader, "noticed") else 0
    return {"batches": batches, "state": state, "noticed": noticed}


def _fork(work: Callable[[], dict[str, Any]]) -> tuple[int, int]:
    """Run ``work`` in a process of its own group; return its id and the pipe of its answer."""
    ours, theirs = os.pipe()
    process = os.fork()
    if process:
        os.close(theirs)
        return process, ours
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # whatever it prints is no answer
    try:
        answer = work()
    except BaseException as error:
        answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}
    with os.fdopen(theirs, "w") as pipe:
        json.dump(answer, pipe)
    os._exit(0)


def _receive(process: int, pipe: int) -> dict[str, Any]:
    data, end = b"", time.monotonic() + DEADLINE_SECONDS
    while select.select([pipe], [], [], max(end - time.monotonic(), 0))[0]:
        block = os.read(pipe, 1 << 16)
        if not block:
            break
        data += block
    os.close(pipe)
    with suppress(ProcessLookupError):  # its own processes, too
        os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    try:
        answer: dict[str, Any] = json.loads(data)
    except ValueError:
        return {"error": f"a rank died, or did not answer for {DEADLINE_SECONDS:.0f} s"}
    return answer


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


DO: dict[str, Callable[..., Any]] = {
    "describe": describe,
    "write": write,
    "files": files,
    "serve": serve,
}

if __name__ == "__main__":
    main()
