"""Signals end a run between steps, or while it waits for data. Its work is saved."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.help.made_shards import make_shards
from tests.train.runs import config
from timbre.errors import WorkError
from timbre.models import checkpoint
from timbre.train.interruption import SIGNALS, Interruption, WaitInterruptedError, is_stopped
from timbre.train.loop import end_step, leave, train_step
from timbre.train.run import Run, open_run


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """As in a program started from a terminal; one in the background ignores some signals."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, default)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_heard_and_tears_nothing(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        assert not interruption.is_asked
        os.kill(os.getpid(), number)
        assert interruption.is_asked
    assert signal.getsignal(number) is before


def test_a_signal_breaks_off_a_wait_and_only_that() -> None:
    with Interruption() as interruption:
        with pytest.raises(WaitInterruptedError), interruption.break_wait():
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the wait went on")
        os.kill(os.getpid(), signal.SIGTERM)
        # What was asked for before a wait ends it at its beginning.
        with pytest.raises(WaitInterruptedError), interruption.break_wait():
            raise AssertionError("a wait began")


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interruption.is_asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_schedulers_signal_is_heard_where_a_batch_script_ignores_it() -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interruption.is_asked


def test_after_a_signal_control_c_ends_the_process_at_once() -> None:
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def begin(url: str, run_dir: Path) -> Run:
    return open_run(config(url, run_dir, "workers=1", "steps=1000", "validate_every=1000",
                           "save_every=1000", "log_every=1000"))  # fmt: skip


def saved_step(run_dir: Path) -> int:
    (path,) = (run_dir / "checkpoints").glob("*.pt")
    return int(checkpoint.load(str(path))["gan"]["step"])


def test_a_signal_while_a_reading_process_is_stopped_saves_and_names_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = make_shards(tmp_path / "shards", [4, 4], [2])
    with begin(url, tmp_path / "run") as run, Interruption() as interruption:
        for batch in run.batches(interruption):
            run.watch(train_step(run, batch))
            if run.gan.step == 2:
                (child,) = multiprocessing.active_children()
                assert child.pid is not None
                os.kill(child.pid, signal.SIGSTOP)
                while not is_stopped(child.pid):
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
                signal.setitimer(signal.ITIMER_REAL, 3)
        steps = run.gan.step
        leave(run)
    assert 2 <= steps < 1000 and saved_step(tmp_path / "run") == steps
    message = f"while waiting for data from process {child.pid} (stopped): saved at step {steps}"
    assert message in capfd.readouterr().err
    assert not multiprocessing.active_children()


def test_a_killed_reading_process_is_one_paragraph_after_saving(tmp_path: Path) -> None:
    url = make_shards(tmp_path / "shards", [4, 4], [2])
    with (
        pytest.raises(WorkError, match=r"reading process was killed.*memory.*saved at step"),
        begin(url, tmp_path / "run") as run,
        Interruption() as interruption,
    ):
        for batch in run.batches(interruption):
            run.watch(train_step(run, batch))
            if run.gan.step == 2:
                for child in multiprocessing.active_children():
                    child.kill()
            assert not end_step(run, interruption)
        steps = run.gan.step
        leave(run)
    assert 2 <= steps < 1000 and saved_step(tmp_path / "run") == steps


def test_a_run_that_waited_goes_on_where_it_was(tmp_path: Path) -> None:
    """The batch that the run waited for is neither lost nor served twice."""
    url = make_shards(tmp_path / "shards", [4, 4], [2])
    with begin(url, tmp_path / "run") as run, Interruption() as interruption:
        for batch in run.batches(interruption):
            run.watch(train_step(run, batch))
            if run.gan.step == 3:
                interruption.is_asked = True
        leave(run)
        place = run.data.stream.state_dict()
    assert run.gan.step == 3 and place["sample_in_epoch"] == 6
    state = checkpoint.load(str(tmp_path / "run/checkpoints/step-00000003.pt"))
    assert state["stream"] == place
