"""A rank's log: what is in it."""

import os
import re
import signal
from pathlib import Path

import pytest

from timbre.errors import ConfigError
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
    try:
        raise ConfigError("steps: expected more")
    except ConfigError as error:
        log.record(error)
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
