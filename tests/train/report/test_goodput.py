"""Wall time is divided without rest, over restarts and ranks."""

import json
from pathlib import Path

import pytest

from timbre import storage
from timbre.errors import WorkError
from timbre.train.report import goodput
from timbre.train.watch import time_log
from timbre.train.watch.time_log import SAVES, VALIDATION, TimeLog


def start(time: float, began: float, step: int, ranks: int) -> str:
    return json.dumps({"kind": "start", "time": time, "began": began, "step": step,
                       "steps": 100, "ranks": ranks})  # fmt: skip


def mark(time: float, step: int, data: float, validation: float, saves: float, skipped: int) -> str:
    return json.dumps({"kind": "log", "time": time, "step": step, "data": data,
                       "validation": validation, "saves": saves, "skipped": skipped})  # fmt: skip


def test_steps_after_the_checkpoint_are_lost_and_the_kinds_add_up_to_the_wall_time() -> None:
    lines = [
        start(10, 0, 0, 2),
        mark(110, 100, 10, 20, 5, 10),
        '{"kind": "log", "time": 115, "st',  # killed while it wrote
        start(160, 150, 50, 1),
        mark(260, 100, 4, 0, 1, 5),
    ]
    divided = goodput.divide(goodput.parse(lines))
    assert divided.seconds == pytest.approx(
        {
            # Half of the first start counts: 50 s, of which 17.5 were no steps. A tenth was skipped.
            "steps": 0.9 * 32.5 + 95,
            "skipped steps": 0.1 * 32.5,
            "data wait": 5 + 4,
            "validation": 10,
            "saves": 2.5 + 1,
            "start-ups": 10 + 10,
            "lost to restarts": 50,
            "between starts": 40,
        }
    )
    assert divided.total == pytest.approx(260)
    assert divided.rank_seconds["lost to restarts"] == pytest.approx(100)
    assert divided.rank_seconds["validation"] == pytest.approx(20)
    assert divided.rank_seconds["between starts"] == 0
    assert divided.perfect_loader() == pytest.approx(260 / 251)
    assert (divided.starts, divided.step, divided.steps) == (2, 100, 100)


def test_a_run_that_goes_on_where_it_ended_loses_nothing() -> None:
    lines = [start(10, 0, 0, 1), mark(20, 5, 0, 0, 0, 0), start(40, 30, 5, 1)]
    divided = goodput.divide(goodput.parse(lines))
    assert divided.seconds["lost to restarts"] == 0 and divided.seconds["between starts"] == 10


def test_a_log_on_a_disk_and_in_a_store_goes_on_with_the_next_start(tmp_path: Path) -> None:
    for run_dir in (str(tmp_path / "run"), "memory://goodput/run"):
        for step in (0, 3):
            with TimeLog(run_dir, step, 9, 1) as log:
                with log.spending(VALIDATION), log.spending(SAVES):
                    pass
                log.log(step + 3, 0.5, 0)
                log.flush()
        divided = goodput.load(run_dir)
        assert divided is not None
        assert (divided.starts, divided.step) == (2, 6)
        assert divided.seconds["data wait"] == pytest.approx(1.0)
        assert divided.seconds["lost to restarts"] == 0


def test_no_times_and_other_contents_are_told_apart(tmp_path: Path) -> None:
    assert goodput.load(str(tmp_path)) is None
    storage.publish(storage.join(str(tmp_path), time_log.NAME), b"[1]\n\xff{}\n")
    with pytest.raises(WorkError, match=r"times\.jsonl: no start of a run"):
        goodput.load(str(tmp_path))
