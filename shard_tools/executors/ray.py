"""Tasks on a running Ray cluster: one actor per processor, or per GPU where the work uses them.

Ray ships no code here: timbre is installed on every node, in the same version, and the sources and
the output are where every node finds them under the same name. Only this module imports Ray.
"""

import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from shard_tools.executors.local import ALLOCATOR
from shard_tools.executors.share import variable
from shard_tools.mix.bank import Bank
from timbre.errors import ConfigError, WorkError
from timbre.processes import Failure, attempt, result_of

T = TypeVar("T")
R = TypeVar("R")

# A task is tried again this often when its actor or node dies; so is the start of an actor.
RETRIES = 3


class Actor(Generic[T, R]):
    """Does one task after another in a process of its own, somewhere in the cluster."""

    def __init__(self, work: Callable[[T], R]) -> None:
        torch.set_num_threads(1)
        self._work = work

    def start(self) -> None:
        """Return as soon as there is room for the actor and ``work`` has arrived."""

    def attempt(self, task: T) -> R | Failure:
        """Return the result of the task, or what it raised."""
        return attempt(self._work, task)


class Call(NamedTuple):
    """What an actor is at: a task and its number, or its start (None)."""

    actor: Any
    number: int | None = None
    task: Any = None
    failed_starts: int = 0


def run_ray(
    work: Callable[[T], R], tasks: Sequence[T], workers: int, *, gpu: bool = True
) -> Iterator[tuple[T, R]]:
    """Yield every task with its result, as they are done, by ``workers`` actors of a Ray cluster.

    The cluster is the one that RAY_ADDRESS names, or else the one this machine is a node of. With
    GPUs in it there is one actor per GPU instead, unless ``gpu`` says that the work needs none.
    More actors than there is room for wait for it.
    ``work`` travels to each node once, and the arrays of its banks are shared by the actors there.
    A task whose actor or node dies is done by another actor.

    Raises:
        ConfigError: Ray is not installed, or RAY_ADDRESS is not HOST:PORT.
        WorkError: there is no cluster, or actors kept dying.
        Exception: whatever a task raised, or drawing it; tasks that are not done then are dropped.
    """
    if not tasks:
        return
    with _connection() as ray:
        gpus = int(ray.cluster_resources().get("GPU", 0)) if gpu else 0
        factory = ray.remote(Actor).options(
            num_cpus=1, num_gpus=1 if gpus else 0, runtime_env={"env_vars": ALLOCATOR}
        )
        shared_work = ray.put(work)
        count = min(gpus or max(workers, 1), len(tasks))
        yield from _hand_out(ray, lambda: factory.remote(shared_work), tasks, count)


def _hand_out(
    ray: Any, hire: Callable[[], Any], tasks: Sequence[T], count: int
) -> Iterator[tuple[T, Any]]:
    """Give one task at a time to each of ``count`` actors that have started.

    Actors are replaced here and not restarted by Ray, which would keep a dead node's task for the
    same actor until there is room for it again, while others have nothing to do.
    """
    queue = deque(range(len(tasks)))
    open_tasks = len(tasks)
    deaths: Counter[int] = Counter()  # of actors at a task, by its number
    calls: dict[Any, Call] = {}

    def start(failed_starts: int = 0) -> None:
        actor = hire()
        calls[actor.start.remote()] = Call(actor, failed_starts=failed_starts)

    def begin(actor: Any, number: int) -> None:
        task = tasks[number]
        calls[actor.attempt.remote(task)] = Call(actor, number, task)

    try:
        for _ in range(count):
            start()
        while open_tasks:
            (ready,), _ = ray.wait(list(calls))
            outcome = _outcome(ray, ready)
            actor, number, task, failed_starts = calls.pop(ready)
            if isinstance(outcome, ray.exceptions.RayError):
                ray.kill(actor)
                if number is None:
                    # Counted for each actor by itself: one lost node may end the start of many.
                    _refuse_too_many_starts(failed_starts + 1, outcome)
                    start(failed_starts + 1)
                else:
                    deaths[number] += 1
                    _refuse_too_many_deaths(deaths[number], outcome)
                    queue.appendleft(number)
                    start()
                continue
            if queue:
                begin(actor, queue.popleft())
            else:
                ray.kill(actor)  # makes room for those that wait for it
            if number is not None:
                open_tasks -= 1
                yield task, result_of(outcome)
    finally:
        for call in calls.values():
            ray.kill(call.actor)


def _outcome(ray: Any, call: Any) -> Any:
    """Return what a call gave, or the RayError that tells why it gave nothing."""
    try:
        return ray.get(call)
    except ray.exceptions.RayTaskError as error:  # outside of the work: a task that cannot be read
        raise error.cause from None
    except ray.exceptions.RayError as error:
        return error


def _refuse_too_many_starts(failures: int, error: Exception) -> None:
    if failures > RETRIES:
        raise WorkError(
            "Ray cannot start an actor; is the same timbre installed on every node? "
            f"Ray says: {error}"
        )


def _refuse_too_many_deaths(deaths: int, error: Exception) -> None:
    if deaths > RETRIES:
        raise WorkError(
            f"{deaths} actors died of the same task, most likely because their nodes ran out of "
            "memory: take fewer workers. What is finished is kept; run again to continue. "
            f"Ray says: {error}"
        )


@contextmanager
def _connection() -> Iterator[Any]:
    """Connect to the running cluster, unless this process is connected already."""
    try:
        import ray
        import ray.util
    except ImportError as error:
        raise ConfigError(f"executor ray: {error}; pip install timbre[ray]") from None
    is_ours = ray.is_initialized()
    if not is_ours:
        _look_for_cluster(variable("RAY_ADDRESS"))
        try:
            ray.init(address="auto", logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _no_cluster(error) from None
    # A bank's own way to other processes is memory of this machine.
    ray.util.register_serializer(Bank, serializer=Bank.to_value, deserializer=Bank.from_value)
    try:
        yield ray
    finally:
        ray.util.deregister_serializer(Bank)
        if not is_ours:
            ray.shutdown()


def _look_for_cluster(address: str | None) -> None:
    """Refuse an address where nobody listens; Ray itself would try for ten minutes."""
    if address is None or address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "://" in address:
        raise ConfigError(
            f"RAY_ADDRESS={address}: expected HOST:PORT, on a machine that is a node of the cluster"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise _no_cluster(f"RAY_ADDRESS={address}: {error}") from None


def _no_cluster(reason: object) -> WorkError:
    return WorkError(
        f"executor ray: no cluster to connect to ({reason}). Start one with `ray start --head` here "
        "and `ray start --address=HEAD:6379` on the other nodes, or name a running one by "
        "RAY_ADDRESS=HOST:PORT"
    )
