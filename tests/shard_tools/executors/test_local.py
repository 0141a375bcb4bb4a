"""Processes of one machine do every task once, and are gone however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from shard_tools.executors.local import ALLOCATOR, run_local
from timbre.command import command
from timbre.errors import WorkError
from timbre.processes import RaisedInWorkerError, WorkerDiedError, run_tasks

ROOT = Path(__file__).parents[3]


class TalkativeError(Exception):
    """An error that cannot be made again from what it holds."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"{what} {number}")


ERRORS: dict[str, Callable[[], Exception]] = {
    "FileNotFoundError": lambda: FileNotFoundError(2, "No such file or directory", "a.wav"),
    "RuntimeError": lambda: TalkativeError(3, "clip"),
}


def square(number: int) -> int:
    return number * number


def threads_and_process(_: int) -> tuple[int, int]:
    return torch.get_num_threads(), os.getpid()


def started_with(_: int) -> dict[str, str]:
    """The environment that this process was started with: it is too late to set it afterwards."""
    lines = Path("/proc/self/environ").read_text().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def device(_: int) -> int:
    return torch.cuda.current_device()


def device_in_use(_: int) -> bool:
    return torch.cuda.is_initialized()


def raise_or_hang(folder: Path, name: str, number: int) -> None:
    (folder / str(number)).touch()
    if number == 0:
        raise ERRORS[name]()
    threading.Event().wait()


def die(how: str, number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL) if how == "killed" else os._exit(7)
    return number


def interrupt_itself(number: int) -> int:
    signal.raise_signal(signal.SIGINT)
    return number


def count_aloud(number: int, report: Callable[[int], None]) -> int:
    for count in range(number):
        report(count)
    return number


def leave_a_file(folder: Path, number: int) -> None:
    with tempfile.NamedTemporaryFile(dir=folder):
        (folder / f"begun-{number}").touch()
        threading.Event().wait()


def begin_and_hang(_: int) -> None:
    os.write(1, b"began\n")
    threading.Event().wait()


@command
def hang(argv: Sequence[str] | None = None) -> None:
    for _ in run_local(begin_and_hang, range(5), 2):
        pass


class CountedWork:
    """``number -> -number``; counts how often it is pickled."""

    pickle_count = 0

    def __reduce__(self) -> tuple[type, tuple[()]]:
        CountedWork.pickle_count += 1
        return CountedWork, ()

    def __call__(self, number: int) -> int:
        return -number


class CountedTasks(Sequence[int]):
    """0, 1, 2, …; counts how many of them were drawn."""

    def __init__(self, total: int) -> None:
        self.total, self.draws = total, 0

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        if number >= self.total:
            raise IndexError
        self.draws += 1
        return number


class TasksWithAFault(CountedTasks):
    """Tasks of which the fifth cannot be drawn."""

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        return super().__getitem__([0, 1, 2, 3][number])


def worker_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    assert worker_processes() == []


@pytest.mark.parametrize(("total", "workers"), [(0, 2), (7, 1), (7, 2)])
def test_every_task_is_done_once(total: int, workers: int) -> None:
    results = list(run_local(square, range(total), workers))
    assert sorted(results) == [(number, number * number) for number in range(total)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_index_error_of_a_task_that_is_drawn_is_not_the_end_of_the_tasks(workers: int) -> None:
    results = []
    with pytest.raises(IndexError, match="list index out of range"):
        for number, _ in run_local(square, TasksWithAFault(9), workers):
            results.append(number)
    assert set(results) <= {0, 1, 2, 3} and len(results) == 4 // workers


@pytest.mark.parametrize("workers", [1, 2])
def test_work_is_done_with_one_torch_thread(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # what a worker would start with
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        processes = set()
        for _, (threads, process) in run_local(threads_and_process, range(4), workers):
            assert torch.get_num_threads() == 3  # the caller keeps its own
            assert threads == 1
            processes.add(process)
    finally:
        torch.set_num_threads(before)
    assert (os.getpid() in processes) == (workers == 1)
    assert len(processes) <= workers


def test_work_is_sent_once_to_each_worker_and_tasks_are_taken_as_they_are_needed() -> None:
    CountedWork.pickle_count = 0
    tasks = CountedTasks(50)
    for count, _ in enumerate(run_local(CountedWork(), tasks, 2), start=1):
        assert tasks.draws <= count + 2
    assert tasks.draws == 50
    assert CountedWork.pickle_count == 2


def test_the_allocator_is_told_before_a_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "4096")  # what the user set stays
    for _, environment in run_local(started_with, range(2), 2):
        expected = {name: environment.get(name) for name in ALLOCATOR}
        assert expected == ALLOCATOR | {"MALLOC_TOP_PAD_": "4096"}
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ


@pytest.mark.parametrize(
    ("name", "workers"), [("RuntimeError", 1), ("RuntimeError", 2), ("FileNotFoundError", 2)]
)
def test_what_a_task_raises_reaches_the_caller_and_no_task_is_begun_after_it(
    tmp_path: Path, name: str, workers: int
) -> None:
    expected = ERRORS[name]()
    with pytest.raises(Exception, match=r"clip 3|a\.wav") as failure:
        list(run_local(partial(raise_or_hang, tmp_path, name), range(9), workers))
    if workers == 1:
        assert type(failure.value) is type(expected)
    else:
        assert type(failure.value).__name__ == name
        assert isinstance(failure.value.__cause__, RaisedInWorkerError)
        assert "in raise_or_hang" in str(failure.value.__cause__)
    if isinstance(expected, OSError):
        assert (failure.value.errno, failure.value.filename) == (2, "a.wav")
    assert {path.name for path in tmp_path.iterdir()} <= set("01"[:workers])


@pytest.mark.parametrize(
    ("how", "message"), [("killed", r"\(SIGKILL\).*memory.*run the same"), ("exits", "exit code 7")]
)
def test_a_worker_that_dies_is_noticed(how: str, message: str) -> None:
    results = []
    with pytest.raises(WorkError, match=message):
        for number, _ in run_local(partial(die, how), range(9), 2):
            results.append(number)
    assert len(results) >= 2 and 3 not in results  # two are done before task 3 is given out


def test_the_task_at_which_a_worker_died_is_known() -> None:
    with pytest.raises(WorkerDiedError) as failure:
        list(run_tasks(partial(die, "exits"), range(9), 1))
    assert failure.value.task == 3


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_a_task_tells_comes_before_its_result(workers: int) -> None:
    reports: dict[int, list[int]] = {number: [] for number in range(5)}
    for number, result in run_tasks(
        count_aloud, range(5), workers, progress=lambda number, count: reports[number].append(count)
    ):
        assert result == number and reports[number] == list(range(number))


def test_a_task_that_is_cut_short_takes_its_temporary_files_with_it(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    threading.Thread(target=_alarm_when_both_began, args=(tmp_path,), daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            list(run_tasks(partial(leave_a_file, tmp_path), range(2), 2))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun-0", "begun-1"]


def _alarm_when_both_began(folder: Path) -> None:
    while len(list(folder.glob("begun-*"))) < 2:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGALRM)


def test_workers_end_when_the_caller_wants_no_more() -> None:
    results = run_local(square, range(9), 2)
    next(results)
    assert len(worker_processes()) == 2
    results.close()
    assert worker_processes() == []


def test_an_interrupt_is_left_to_the_parent() -> None:
    assert len(list(run_local(interrupt_itself, range(4), 2))) == 4
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize(
    ("number", "to_all", "code", "message"),
    [
        (signal.SIGKILL, False, -signal.SIGKILL, ""),
        (signal.SIGTERM, True, -signal.SIGTERM, ""),
        (
            signal.SIGINT,  # what Ctrl-C sends to all processes of a terminal
            True,
            1,
            "timbre: error: interrupted\n",
        ),
    ],
)
def test_workers_end_with_their_parent_and_quietly(
    number: signal.Signals, to_all: bool, code: int, message: str
) -> None:
    script = "import sys; from tests.shard_tools.executors.test_local import hang; sys.exit(hang())"
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    try:
        assert [parent.stdout.readline() for _ in range(2)] == ["began\n"] * 2
        (os.killpg if to_all else os.kill)(parent.pid, number)
        # Ends when the last process that could write to the pipes is gone: the workers too.
        output, errors = parent.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(parent.pid, signal.SIGKILL)
        raise
    assert (output, errors, parent.returncode) == ("", message, code)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_workers_take_turns_at_the_devices() -> None:
    count = torch.cuda.device_count()
    devices = dict(run_local(device, range(count + 1), count + 1))  # task n is given to worker n
    assert devices == {number: number % count for number in range(count + 1)}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_workers_whose_work_needs_no_gpu_take_none() -> None:
    assert not any(has_cuda for _, has_cuda in run_local(device_in_use, range(2), 2, gpu=False))
    assert all(has_cuda for _, has_cuda in run_local(device_in_use, range(2), 2))
