"""A rank's log: what is in it, and of several ranks that fail one that tells all."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.train.distributed.launch import launch
from timbre.errors import ConfigError
from timbre.train.told_once import Turn, told_once, turn
from timbre.train.watch.rank_log import RankLog


def test_a_log_goes_on_where_the_last_start_left_it(tmp_path: Path) -> None:
    for start in ("first", "second"):
        log = RankLog(str(tmp_path / "run"), 37)
        log.write(f"{start} start")
        log.close()
    lines = (tmp_path / "run/logs/rank-00037.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["first start", "second start"]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", line) for line in lines)


def test_a_failure_leaves_its_traceback_and_a_signal_the_stacks(tmp_path: Path) -> None:
    log = RankLog(str(tmp_path), 0)

    def look_here() -> None:
        os.kill(os.getpid(), signal.SIGUSR2)

    look_here()
    with pytest.raises(ConfigError), log.recording():
        raise ConfigError("steps: expected more")
    log.close()
    text = (tmp_path / "logs/rank-00000.log").read_text()
    assert re.search(r"test_rank_log\.py.* in look_here\n.* in test_a_failure", text)
    assert "Traceback" in text and "ConfigError: steps: expected more" in text


def test_a_run_in_a_store_has_no_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = RankLog("memory://bucket/run", 0)
    log.write("unheard")
    log.close()
    assert not list(tmp_path.iterdir())


def test_who_is_alone_tells_everything_himself() -> None:
    assert turn("words") == turn("words") == Turn(True, 0)
    with pytest.raises(ConfigError, match="global_batch"), told_once():
        raise ConfigError("global_batch")


def test_of_a_fault_of_all_ranks_the_first_is_told_with_its_traceback() -> None:
    finished = launch(2, "-m", "tests.train.distributed.report_fault")
    assert finished.returncode == 1
    told, _, summary = finished.stderr.partition("torch/distributed/elastic")
    assert told.count("Traceback") == 1 and summary
    first, second = (
        re.findall(pattern + r"lost the peer of rank (\d)", told, re.M)
        for pattern in (
            r"^\[rank\d\]: RuntimeError: ",
            r"^timbre: error: rank \d, after another: RuntimeError: ",
        )
    )
    assert sorted(first + second) == ["0", "1"]
