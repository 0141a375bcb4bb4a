"""Reading processes that are stopped or killed: the wait for them is seen, named, and ends."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.help.made_shards import make_shards
from timbre.errors import LostWorkerError
from timbre.shards import DataSource, open_corpus
from timbre.stream import Counters, PairBatch, PairStream, ReadingConfig, StreamConfig, Wait
from timbre.stream.reading_processes import ReadingProcesses

DEADLINE = 2.0


class StopWaitingError(Exception):
    """The error of a caller that was told to leave."""


@pytest.fixture
def stream(tmp_path: Path) -> PairStream:
    url = make_shards(tmp_path / "shards", [8, 8])
    reading = ReadingConfig(deadline_seconds=DEADLINE)
    config = StreamConfig(4800, 2, 0, 2, workers=2, reading=reading)
    return PairStream([open_corpus(DataSource(url), "train")], config)


def begin(batches: Iterator[PairBatch]) -> tuple[PairBatch, list[psutil.Process]]:
    """The first batch, and the processes that read for it, in the order of their numbers."""
    before = {process.pid for process in psutil.Process().children()}
    batch = next(batches)
    children = psutil.Process().children()
    fresh = sorted((one for one in children if one.pid not in before), key=lambda one: one.pid)
    assert len(fresh) == 2
    return batch, fresh


def have_ended(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=30)
    return not alive


def stop_all(batches: Iterator[PairBatch]) -> list[psutil.Process]:
    _, processes = begin(batches)
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    return processes


def drain(batches: Iterator[PairBatch]) -> None:
    for _ in batches:
        pass


def test_who_waits_is_called_with_the_process_that_does_not_answer(stream: PairStream) -> None:
    waits: list[Wait] = []

    def leave(waiting: Wait) -> None:
        waits.append(waiting)
        assert waiting.is_stopped
        raise StopWaitingError

    batches = stream.read_ahead(leave)
    processes = stop_all(batches)
    with pytest.raises(StopWaitingError):
        drain(batches)
    (waiting,) = waits
    assert waiting.pid == processes[waiting.worker].pid
    assert have_ended(processes), "a stopped process would be waited for at the end of the program"


def test_a_process_that_goes_on_in_time_is_waited_for(stream: PairStream) -> None:
    to_wake: list[psutil.Process] = []

    def go_on(_: Wait) -> None:
        for process in to_wake:
            process.send_signal(signal.SIGCONT)

    expected = [batch.keys for _, batch in zip(range(30), stream.read_ahead(), strict=False)]
    batches = stream.read_ahead(go_on)
    first, processes = begin(batches)
    keys = [first.keys]
    to_wake += processes
    for process in to_wake:
        process.send_signal(signal.SIGSTOP)
    keys += [batch.keys for _, batch in zip(range(29), batches, strict=False)]
    assert keys == expected


def test_one_that_stays_stopped_ends_the_stream_with_its_name(stream: PairStream) -> None:
    batches = stream.read_ahead()
    processes = stop_all(batches)
    message = r"reading process [01] \(pid \d+\) is stopped and has not answered for 3 s"
    with pytest.raises(LostWorkerError, match=message):
        drain(batches)
    assert have_ended(processes)


@pytest.mark.parametrize("which", [0, 1])
def test_one_that_is_killed_ends_the_stream_with_its_likely_cause(
    stream: PairStream, which: int
) -> None:
    handler: Callable[..., object] | int | None = signal.getsignal(signal.SIGCHLD)
    batches = stream.read_ahead()
    _, processes = begin(batches)
    assert signal.getsignal(signal.SIGCHLD) == handler, "a death would raise anywhere"
    os.kill(processes[which].pid, signal.SIGKILL)
    with pytest.raises(LostWorkerError, match=rf"killed .*{processes[which].pid}.* out of memory"):
        drain(batches)
    assert have_ended(processes)


def test_asking_whether_memory_can_be_shared_fixes_no_start_method() -> None:
    code = (
        "import torch.multiprocessing as m\n"
        "from timbre.stream.shared_batches import RowPool\n"
        "assert RowPool.is_possible()\n"
        "m.set_start_method('spawn')\n"
        "assert not RowPool.is_possible()\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_counters_add_up() -> None:
    assert Counters(5, 1) + Counters(2, 3) - Counters(1) == Counters(6, 4)


def test_in_a_thread_each_is_started_once(
    stream: PairStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, forks = os.fork, []

    def count_fork() -> int:
        forks.append(fork())
        return forks[-1]

    monkeypatch.setattr(os, "fork", count_fork)
    batches = iter(stream)
    thread = threading.Thread(target=next, args=(batches,))
    thread.start()
    thread.join()
    batches.close()  # type: ignore[attr-defined] # a generator
    assert len(forks) == 2


def test_one_whose_parent_died_before_it_began_ends_at_once() -> None:
    processes = ReadingProcesses(are_forked=True)
    if (child := os.fork()) == 0:
        if (orphan := os.fork()) == 0:
            processes.begin(0)  # its parent is another than the one that it was made for
            os._exit(3)
        os._exit(os.waitpid(orphan, 0)[1] != 0)
    assert os.waitpid(child, 0)[1] == 0
