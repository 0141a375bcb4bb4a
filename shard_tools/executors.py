"""Where tasks of a job are done. They are independent, so an executor only hands them out.

``local`` is processes of one machine, one thread each: DeepFilterNet3's small matrices gain more
from a second process than from a second thread. ``array`` is ``local`` on several machines that
share nothing but the output: each does its share of the tasks (:func:`find_share`). ``ray`` is
:mod:`shard_tools.ray_executor`.
"""

import multiprocessing
import os
import pickle
import re
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple, TypeVar

import torch

from timbre.errors import ConfigError, WorkError
from timbre.one_thread import one_thread

T = TypeVar("T")
R = TypeVar("R")

Pool = dict[Connection, SpawnProcess]  # each with the line to it

# The allocator gives big blocks back to the system and faults them in again, batch after batch,
# unless told to keep them. oneDNN keeps code and memory for the last 1024 shapes that it met, and
# every batch has its own. Both are read once, when a process starts.
ALLOCATOR = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "MALLOC_MMAP_THRESHOLD_": "8589934592",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass(frozen=True)
class Share:
    """Which part of the tasks is this process's: every ``count``-th one from ``index`` on."""

    index: int
    count: int


class Failure(NamedTuple):
    """What a task raised, on its way from a worker to the caller."""

    error: Exception
    traceback: str


class RaisedInWorkerError(Exception):
    """The traceback of an error in a worker; the cause of that error at the caller's."""


def run_local(
    work: Callable[[T], R], tasks: Sequence[T], workers: int, *, gpu: bool = True
) -> Iterator[tuple[T, R]]:
    """Yield every task with its result, as they are done, by ``workers`` processes.

    With one worker the work is done in this process. Every worker is sent ``work`` once and then
    one task after another; with CUDA and work that wants a ``gpu``, worker n uses device n, counted
    around. Workers are gone when this ends, however it ends, a SIGKILL of this process included.

    Raises:
        WorkError: a worker died (out of memory, say).
        Exception: whatever a task raised, or drawing it; tasks that are not done then are dropped.
    """
    # By number: iterating takes an IndexError that a task raises as it is drawn for the end of all.
    waiting = deque(range(len(tasks)))
    if workers <= 1:
        while waiting:
            task = tasks[waiting.popleft()]
            with one_thread():
                result = work(task)
            yield task, result
        return
    with _worker_processes(work, min(workers, len(tasks)), gpu) as pool:
        begun: dict[Connection, T] = {}
        for line in pool:
            begun[line] = tasks[waiting.popleft()]
            _send(pool, line, begun[line])
        while begun:
            for line in _answered(begun):
                result = result_of(_receive(pool, line))
                task = begun.pop(line)
                if waiting:
                    begun[line] = tasks[waiting.popleft()]
                    _send(pool, line, begun[line])
                yield task, result


def find_share(told: str | None) -> Share:
    """Return the share given as "I/N", or else by the scheduler that started this process.

    Known are TIMBRE_SHARE with TIMBRE_SHARES, Slurm's job arrays and Kubernetes' indexed jobs.

    Raises:
        ConfigError: there is none, or it is not clear how many shares there are.
    """
    if told is not None:
        match = re.fullmatch(r"(\d+)/(\d+)", told)
        if not match:
            raise ConfigError(f"--share {told}: expected I/N with 0 <= I < N, such as 0/10")
        return _checked(Share(int(match[1]), int(match[2])), f"--share {told}")
    number, count = _number("TIMBRE_SHARE"), _number("TIMBRE_SHARES")
    if number is not None:
        return _share_of("TIMBRE_SHARE", number, count)
    if (number := _number("SLURM_ARRAY_TASK_ID")) is not None:
        return _slurm_share(number) if count is None else _share_of("SLURM_ARRAY_TASK_ID", number, count)  # fmt: skip
    if (number := _number("JOB_COMPLETION_INDEX")) is not None:
        return _share_of("JOB_COMPLETION_INDEX", number, count)
    raise ConfigError(
        "executor array: which share is this? Expected --share I/N, or TIMBRE_SHARE=I with "
        "TIMBRE_SHARES=N, or a Slurm job array (SLURM_ARRAY_TASK_ID), or a Kubernetes indexed job "
        "(JOB_COMPLETION_INDEX with TIMBRE_SHARES=N)"
    )


def attempt(work: Callable[[T], R], task: T) -> R | Failure:
    """Return ``work(task)``, or what it raised in a form that any process can read."""
    try:
        return work(task)
    except Exception as error:
        return Failure(_portable(error), traceback.format_exc())


def result_of(outcome: R | Failure) -> R:
    """Return the result of an :func:`attempt`, or raise what the task raised."""
    if isinstance(outcome, Failure):
        raise outcome.error from RaisedInWorkerError(f"\n{outcome.traceback}")
    return outcome


def variable(name: str) -> str | None:
    """Return what the environment holds under a name, None where that is nothing."""
    return os.environ.get(name) or None


@contextmanager
def _worker_processes(work: Callable[[T], R], count: int, gpu: bool) -> Iterator[Pool]:
    """Give ``count`` processes that do tasks; end them afterwards."""
    context = multiprocessing.get_context("spawn")
    pool: Pool = {}
    try:
        with _environment(ALLOCATOR), _interrupts_held():
            for number in range(count):
                ours, theirs = context.Pipe()
                told = theirs, work, number if gpu else None
                process = context.Process(target=_serve, args=told, daemon=True)
                process.start()
                theirs.close()  # so that the line breaks when the worker dies
                pool[ours] = process
        yield pool
    finally:
        # At once, whatever they do: a task publishes its output whole or not at all.
        for process in pool.values():
            process.kill()
        for line, process in pool.items():
            process.join()
            line.close()


def _serve(line: Connection, work: Callable[[T], R], device: int | None) -> None:
    """Do the tasks that come in: what a worker process runs."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    if device is not None and torch.cuda.is_available():  # a choice takes some of its memory
        torch.cuda.set_device(device % torch.cuda.device_count())
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            line.send(attempt(work, line.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _answered(begun: Mapping[Connection, object]) -> list[Connection]:
    """Wait for answers; return the lines on which there is one, or which are broken."""
    return [line for line in wait(list(begun)) if isinstance(line, Connection)]


def _send(pool: Pool, line: Connection, task: object) -> None:
    try:
        line.send(task)
    except ConnectionError:
        raise _death(pool[line]) from None


def _receive(pool: Pool, line: Connection) -> Any:
    try:
        return line.recv()
    except (EOFError, ConnectionError):
        raise _death(pool[line]) from None


def _death(process: SpawnProcess) -> WorkError:
    process.join()
    again = "what is finished is kept; run the same command again to continue"
    if process.exitcode == -signal.SIGKILL:
        return WorkError(
            "a worker process was killed (SIGKILL), most likely because the machine ran out of "
            f"memory: is there room for this many workers? {again}"
        )
    return WorkError(
        f"a worker process died with exit code {process.exitcode}, its own message is above; {again}"
    )


def _portable(error: Exception) -> Exception:
    """Return the error, or its text where another process could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever the error's own methods raise
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let processes that are started meanwhile never see a Ctrl-C: it is their parent's to act on."""
    resource_tracker.ensure_running()  # starting it would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile; what the user set stays."""
    added = [name for name in variables if name not in os.environ]
    os.environ.update({name: variables[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _number(name: str) -> int | None:
    """Return a whole number from the environment, None where it is not set."""
    text = variable(name)
    if text is None:
        return None
    if not re.fullmatch(r"\d+", text):
        raise ConfigError(f"{name}={text}: expected a whole number, 0 or more")
    return int(text)


def _slurm_share(number: int) -> Share:
    """Return the share of task ``number`` of an array that is as long as the shares are many."""
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("MIN", "MAX", "COUNT")]
    first, last, count = (_number(name) for name in names)
    if first is None or last is None or count is None:
        raise ConfigError(f"SLURM_ARRAY_TASK_ID={number}: expected {', '.join(names)} beside it")
    if count != last - first + 1:
        raise ConfigError(
            f"SLURM_ARRAY_TASK_COUNT={count}: {count} of the tasks {first}-{last} are a part of an "
            "array, and of how many shares? Expected TIMBRE_SHARES=N as well (the task id is then "
            "the share), or an array without gaps, such as --array=0-9"
        )
    return _checked(Share(number - first, count), f"SLURM_ARRAY_TASK_ID={number}")


def _share_of(name: str, number: int, count: int | None) -> Share:
    if count is None:
        raise ConfigError(f"{name}={number}: expected TIMBRE_SHARES=N, the number of shares, as well")  # fmt: skip
    return _checked(Share(number, count), f"{name}={number} with TIMBRE_SHARES={count}")


def _checked(share: Share, source: str) -> Share:
    if share.index >= share.count:
        raise ConfigError(f"{source}: expected shares 0 to N-1 of N, with N at least 1")
    return share
