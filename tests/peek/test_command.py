"""`timbre peek`: what it shows is what a run is served."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.help.made_shards import make_shards
from timbre import shards
from timbre.peek.command import main
from timbre.shards.corpus import DataSource, open_corpus
from timbre.stream import PairStream, Place, StreamConfig


@pytest.fixture
def manifest_url(tmp_path: Path) -> str:
    return make_shards(tmp_path / "shards", [9, 4, 12, 6])  # 31 pairs: 5 batches of 6


def peek(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main([*words, "--global-batch", "6", "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("rank", [0, 2])
def test_it_shows_what_the_stream_serves(
    manifest_url: str, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    corpora = (open_corpus(DataSource(manifest_url), "train"),)
    config = StreamConfig(segment=4800, global_batch=6, seed=7, window=2, workers=0)
    stream = [
        (batch.epoch, int(batch.positions[0]), batch.keys)
        for batch in islice(PairStream(corpora, config, Place(rank, 3)), 10)
    ]
    peeks = []
    for epoch in ("0", "1"):
        words = ["--world", "3", "--rank", str(rank), "--seed", "7", "--window", "2"]
        batches = peek(capsys, manifest_url, *words, "--epoch", epoch)
        peeks += [(int(epoch), b["sample"] + 2 * rank, b["keys"]) for b in batches]
        assert [batch["step"] for batch in batches] == list(range(5))
    assert peeks == stream


def test_each_key_lies_in_the_shard_that_is_named(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = peek(capsys, manifest_url)
    entries = {s.path: s for s in shards.load_manifest(manifest_url).shards("train")}
    for batch in batches:
        assert batch.keys() == {"step", "sample", "keys", "shards"}
        for key, path in zip(batch["keys"], batch["shards"], strict=True):
            index = shards.load_index(shards.folder_of(manifest_url), entries[path])
            assert key in {pair.key for pair in index.pairs}
    assert len({key for batch in batches for key in batch["keys"]}) == 30


def test_text_and_json_say_the_same(manifest_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    batches = peek(capsys, manifest_url, "--epoch", "2", "--start", "12")
    assert [batch["sample"] for batch in batches] == [12, 18, 24]
    assert main([manifest_url, "--global-batch", "6", "--epoch", "2", "--start", "12"]) == 0
    lines = [f"2:{batch['sample']} " + " ".join(batch["keys"]) for batch in batches]
    assert capsys.readouterr().out.splitlines() == lines


def test_one_can_go_on_where_one_stopped(
    manifest_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = peek(capsys, manifest_url)
    assert peek(capsys, manifest_url, "--steps", "2") == whole[:2]
    assert peek(capsys, manifest_url, "--steps", "2", "--start", "12") == whole[2:4]


@pytest.mark.parametrize(
    "words",
    [
        ["--global-batch", "7", "--world", "2"],
        ["--global-batch", "32"],
        ["--world", "2", "--rank", "2"],
        ["--global-batch", "6", "--start", "5"],
        ["--global-batch", "6", "--start", "30"],
    ],
)
def test_what_no_run_could_be_served_is_bad_usage(manifest_url: str, words: list[str]) -> None:
    assert main([manifest_url, *words]) == 2


@pytest.mark.parametrize(("option", "least"), [("--world", 1), ("--rank", 0), ("--steps", 1)])
def test_a_number_below_the_least_is_bad_usage(
    manifest_url: str, option: str, least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([manifest_url, option, str(least - 1)])
    assert f"expected a whole number of at least {least}" in capsys.readouterr().err
    assert main([manifest_url, "--global-batch", "6", option, str(least)]) == 0


def test_a_missing_manifest_is_bad_usage_and_an_unknown_split_a_failure(
    manifest_url: str, tmp_path: Path
) -> None:
    assert main([str(tmp_path / "nothing")]) == 2
    assert main([manifest_url, "--split", "test"]) == 1
