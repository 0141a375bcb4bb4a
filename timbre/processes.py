"""Independent tasks on processes of this machine, one thread each; results as they come.

DeepFilterNet3's small matrices gain more from a second process than from a second thread.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple, TypeVar

import torch

from timbre.environment import inherit
from timbre.errors import WorkError
from timbre.torch_settings import one_thread

T = TypeVar("T")
R = TypeVar("R")

Pool = dict[Connection, SpawnProcess]  # each with the line to it
Work = Callable[..., R]

# A worker that was asked to end may be in code that is not Python's, and is killed after this time.
PATIENCE_SECONDS = 5.0


class Failure(NamedTuple):
    """What a task raised, on its way from a worker to the caller."""

    error: Exception
    traceback: str


class Message(NamedTuple):
    """What a task tells before it is done."""

    content: Any


class RaisedInWorkerError(Exception):
    """The traceback of an error in a worker; the cause of that error at the caller's."""


class WorkerDiedError(WorkError):
    """A worker process died at ``task``."""

    def __init__(self, text: str, task: Any) -> None:
        super().__init__(text)
        self.task = task


def run_tasks(
    work: Work[R],
    tasks: Sequence[T],
    workers: int,
    *,
    gpu: bool = False,
    environment: Mapping[str, str] | None = None,
    progress: Callable[[T, Any], None] | None = None,
) -> Iterator[tuple[T, R]]:
    """Yield every task with ``work(task)``, as they are done, by ``workers`` processes.

    Every worker is sent ``work`` once and then one task after another. Workers are gone when this
    ends, however it ends, a SIGKILL of this process included.

    Args:
        workers: 0 does the work in this process.
        gpu: worker n uses CUDA's device n, counted around.
        environment: variables that workers start with, unless the user has set them.
        progress: called with a task and what it reports; ``work(task, report)`` then takes a
            function to report with as its second argument.

    Raises:
        WorkerDiedError: a worker died (out of memory, say).
        Exception: whatever a task raised, or drawing it; tasks that are not done then are dropped.
    """
    # By number: iterating takes an IndexError that a task raises as it is drawn for the end of all.
    queue = deque(range(len(tasks)))
    if workers == 0:
        while queue:
            task = tasks[queue.popleft()]
            with one_thread():
                result = work(task, partial(progress, task)) if progress else work(task)
            yield task, result
        return
    count = min(workers, len(tasks))
    with _processes(work, count, gpu, environment or {}, progress is not None) as pool:
        tasks_of_lines: dict[Connection, T] = {}
        for line in pool:
            tasks_of_lines[line] = tasks[queue.popleft()]
            _send(pool, line, tasks_of_lines[line])
        while tasks_of_lines:
            for line in _lines_with_answers(tasks_of_lines):
                answer = _receive(pool, line, tasks_of_lines[line])
                if isinstance(answer, Message):
                    assert progress is not None
                    progress(tasks_of_lines[line], answer.content)
                    continue
                result = result_of(answer)
                task = tasks_of_lines.pop(line)
                if queue:
                    tasks_of_lines[line] = tasks[queue.popleft()]
                    _send(pool, line, tasks_of_lines[line])
                yield task, result


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


@contextmanager
def _processes(
    work: Work[Any], count: int, gpu: bool, environment: Mapping[str, str], reports: bool
) -> Iterator[Pool]:
    """Give ``count`` processes that do tasks; end them afterwards."""
    context = multiprocessing.get_context("spawn")
    pool: Pool = {}
    try:
        with inherit(environment), _hold_interrupts():
            for number in range(count):
                ours, theirs = context.Pipe()
                arguments = theirs, work, number if gpu else None, reports
                process = context.Process(target=_serve, args=arguments, daemon=True)
                process.start()
                theirs.close()  # so that the line breaks when the worker dies
                pool[ours] = process
        yield pool
    finally:
        # Whatever they do: a task publishes its output whole or not at all. Asked, so that their
        # temporary files go too.
        for process in pool.values():
            process.terminate()
        for line, process in pool.items():
            process.join(PATIENCE_SECONDS)
            process.kill()
            process.join()
            line.close()


def _serve(line: Connection, work: Work[Any], device: int | None, reports: bool) -> None:
    """Do the tasks that come in: what a worker process runs."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    if device is not None and torch.cuda.is_available():  # a choice takes some of its memory
        torch.cuda.set_device(device % torch.cuda.device_count())
    if reports:
        work = partial(_reporting_by, line, work)
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            line.send(attempt(work, line.recv()))


def _reporting_by(line: Connection, work: Work[R], task: object) -> R:
    return work(task, lambda content: line.send(Message(content)))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _lines_with_answers(tasks_of_lines: Mapping[Connection, object]) -> list[Connection]:
    """Wait for answers; return the lines on which there is one, or which are broken."""
    return [line for line in wait(list(tasks_of_lines)) if isinstance(line, Connection)]


def _send(pool: Pool, line: Connection, task: object) -> None:
    try:
        line.send(task)
    except ConnectionError:
        raise _death(pool[line], task) from None


def _receive(pool: Pool, line: Connection, task: object) -> Any:
    try:
        return line.recv()
    except (EOFError, ConnectionError):
        raise _death(pool[line], task) from None


def _death(process: SpawnProcess, task: object) -> WorkerDiedError:
    process.join()
    again = "what is finished is kept; run the same command again to continue"
    if process.exitcode == -signal.SIGKILL:
        return WorkerDiedError(
            "a worker process was killed (SIGKILL), most likely because the machine ran out of "
            f"memory: is there room for this many workers? {again}",
            task,
        )
    return WorkerDiedError(
        f"a worker process died with exit code {process.exitcode}, its own message is above; {again}",
        task,
    )


def _portable(error: Exception) -> Exception:
    """Return the error, or its text where another process could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever the error's own methods raise
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _hold_interrupts() -> Iterator[None]:
    """Let processes that are started meanwhile never see a Ctrl-C: it is their parent's to act on."""
    resource_tracker.ensure_running()  # starting it would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
