"""Pairs measured on processes: continued, and whatever fails."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tests.help.evaluations import PAIRS, QUICK, lines_of, run
from tests.help.made_shards import make_shards, spoil_pair
from timbre.errors import WorkError
from timbre.evaluate import command as evaluate
from timbre.evaluate import measure as jobs
from timbre.evaluate.systems import System


def test_rows_are_the_same_whatever_the_number_of_processes_and_their_age(
    manifest: str, better_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes measure the first half of the pairs, two others the second half."""
    monkeypatch.setattr(jobs, "LIFE", PAIRS // 4)
    checkpoint = str(better_run.parent / "g.safetensors")
    run(checkpoint, manifest, tmp_path, "--workers", "2", "--harm-pairs", "2")
    for name in ("pairs.csv", "metrics.json"):
        assert (tmp_path / name).read_bytes() == (better_run / name).read_bytes()


def test_running_again_continues_where_it_was_cut_short(
    manifest: str, better_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = str(better_run.parent / "g.safetensors")
    keys: list[str] = []
    real = jobs.measure_case

    def counting(setup: jobs.Setup, case: Any, harm: bool) -> jobs.Row:
        if len(keys) == 3:
            raise KeyboardInterrupt
        keys.append(case.key)
        return real(setup, case, harm)

    monkeypatch.setattr(jobs, "measure_case", counting)
    words = [checkpoint, "--data", manifest, "--out", str(tmp_path), "--workers", "1", *QUICK]
    assert evaluate.main([*words, "--harm-pairs", "2"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished.json"]
    monkeypatch.setattr(jobs, "measure_case", real)
    again: list[str] = []
    monkeypatch.setattr(
        jobs,
        "measure_case",
        lambda setup, case, harm: again.append(case.key) or real(setup, case, harm),
    )
    assert evaluate.main([*words, "--harm-pairs", "2"]) == 0
    assert len(keys) == 3 and len(again) == PAIRS - 3 and not set(again) & set(keys)
    assert (tmp_path / "pairs.csv").read_bytes() == (better_run / "pairs.csv").read_bytes()
    assert not (tmp_path / "unfinished.json").exists()


class Bomb(jobs.Case):
    """One pair ends the process that measures it, as failing C code does."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


def test_a_process_that_dies_is_told_and_what_was_done_is_kept(
    manifest: str, tmp_path: Path
) -> None:
    data = evaluate.cases.open_data(manifest, "val")
    setup = jobs.Setup((System("df3"),), False, ("si_sdr",))
    some = [data.cases[0], Bomb("the bomb")]
    store = jobs.Store(str(tmp_path), "one")
    jobs.measure_all(setup, some[:1], frozenset(), 1, store)
    with pytest.raises(WorkError, match=r"^(the bomb|another): a worker process died"):
        jobs.measure_all(setup, [*some, Bomb("another")], frozenset(), 2, store)
    assert list(jobs.Store(str(tmp_path), "one").rows) == [data.cases[0].key]


def test_rows_of_another_checkpoint_are_not_continued(tmp_path: Path) -> None:
    store = jobs.Store(str(tmp_path), "one")
    labels = jobs.Labels("someone", 3.0, None, "dry", 20_000.0)
    row = jobs.Row(
        "key", 1.0, labels, {"main": {"df3": {"pesq": math.nan, "si_sdr": 3.0}}}, ["bad"]
    )
    store.add("key", row)
    store.add("lost", jobs.Row("lost", 0.0, labels, {}, [], "cannot be read"))
    store.save()
    assert str(jobs.Store(str(tmp_path), "one").rows) == str({"key": row})
    assert jobs.Store(str(tmp_path), "another").rows == {}


def test_a_pair_that_cannot_be_read_is_named_and_counted_and_the_rest_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make_shards(tmp_path / "shards", (1,), (3,))
    spoil_pair(manifest, 1)
    out = tmp_path / "out"
    words = ["none", "--data", manifest, "--out", str(out), "--workers", "1", *QUICK]
    assert evaluate.main([*words, "--harm-pairs", "0"]) == 1
    error = capsys.readouterr().err
    assert "1 of 3 pairs could not be read" in error and "val/shard-000000.tar" in error
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["pairs"] == 2 and "val-000000-0001" in metrics["unreadable"][0]
    assert {line["pair"] for line in lines_of(out / "pairs.csv")} == {
        "val-000000-0000",
        "val-000000-0002",
    }


def test_a_system_that_fails_on_a_pair_costs_that_pair(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_shards(tmp_path / "shards", (1,), (3,))
    real = jobs.Chains.outputs

    def failing(self: jobs.Chains, pair: Any) -> Any:
        if len(pair.clean) == 12_007:  # the second pair
            raise RuntimeError("too odd")
        return real(self, pair)

    monkeypatch.setattr(jobs.Chains, "outputs", failing)
    out = tmp_path / "out"
    words = ["none", "--data", manifest, "--out", str(out), "--workers", "1", *QUICK]
    assert evaluate.main([*words, "--harm-pairs", "0"]) == 1
    assert "val-000000-0001: RuntimeError: too odd" in capsys.readouterr().err
    assert json.loads((out / "metrics.json").read_text())["pairs"] == 2
