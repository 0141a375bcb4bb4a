"""The stream on real ranks with real reading processes: one order, whoever reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.help.made_shards import make_shards
from tests.train.distributed.launch import launch, run_ranks
from tests.train.distributed.test_ranks import write_config
from timbre.models import checkpoint
from timbre.shards.corpus import DataSource, open_corpus
from timbre.stream import PairStream, StreamConfig
from timbre.train import checkpoints

GLOBAL_BATCH, SEGMENT, STEPS = 12, 2400, 12
SHARDS = [14, 10, 18, 8, 12]  # 62 pairs: 5 steps an epoch


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), SHARDS, seconds=0.1)


def states_of(url: str) -> dict[str, Any]:
    """The state after so many steps: at the start, inside epochs, at an epoch's end, much later."""
    stream = PairStream(
        [open_corpus(DataSource(url), "train")], StreamConfig(SEGMENT, GLOBAL_BATCH, 3, 2, 0)
    )
    states = {"0": stream.state_dict()}
    for step, _ in zip(range(1, STEPS), stream, strict=False):
        states[str(step)] = stream.state_dict()
    return {step: states[step] for step in ("0", "3", "5", "9")}


def serve(folder: Path, url: str, world: int, workers: int, **more: Any) -> dict[str, Any]:
    """Return what all ranks together are served: for the whole and each resume, a list of steps."""
    folder.mkdir()
    job = {
        "manifest": url,
        "global_batch": GLOBAL_BATCH,
        "segment": SEGMENT,
        "workers": workers,
        "steps": STEPS,
        "states": {},
        "alone": False,
        "out": str(folder),
    }
    (folder / "job.json").write_text(json.dumps(job | more))
    run_ranks(world, "tests.train.distributed.report_batches", f"{folder}/job.json")
    reports = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(world)]
    answer = {}
    for name in reports[0]:
        steps = zip(*(rank[name] for rank in reports), strict=True)
        answer[name] = [
            [parts[0][0], [row for _, rows in parts for row in rows]] for parts in steps
        ]
    return answer


def test_global_batches_and_resumes_are_equal_over_ranks_and_workers(
    url: str, tmp_path: Path
) -> None:
    states = states_of(url)
    expected = serve(tmp_path / "one", url, 1, 0)["whole"]
    assert [epoch for epoch, _ in expected] == [0] * 5 + [1] * 5 + [2] * 2
    for world, workers in [(2, 1), (3, 2), (6, 0)]:
        reports = serve(tmp_path / f"{world}", url, world, workers, states=states)
        assert reports["whole"] == expected, (world, workers)
        for step in states:
            assert reports[step] == expected[int(step) :], (world, workers, step)


def test_ranks_share_an_epoch_without_overlap_and_without_talking(tmp_path: Path) -> None:
    """60 pairs in 5 steps: union is the data, overlap none; rank 0 is done before rank 1 begins."""
    url = make_shards(tmp_path / "shards", [20, 15, 25], seconds=0.1)
    reports = serve(tmp_path / "out", url, 2, 2, steps=5, alone=True)
    keys = [row[0] for _, rows in reports["whole"] for row in rows]
    shards = zip(range(3), [20, 15, 25], strict=True)
    assert sorted(keys) == [f"train-{s:06d}-{i:04d}" for s, n in shards for i in range(n)]
    ranks = [json.loads((tmp_path / f"out/rank{rank}.json").read_text()) for rank in range(2)]
    mine, other = ({row[0] for _, rows in rank["whole"] for row in rows} for rank in ranks)
    assert len(mine) == len(other) == 30 and not mine & other


@pytest.mark.parametrize("damage", ["all pairs in a row", "a few too many"])
def test_a_rank_that_cannot_go_on_ends_all_with_one_message(tmp_path: Path, damage: str) -> None:
    """One of two ranks meets the damage. Nothing hangs, and the checkpoint before it stays."""
    url = make_shards(tmp_path / "shards", [60, 101], [2], seconds=0.2)
    shard = Path(url).parent / "train/shard-000001.tar"
    overrides = ["log_every=2", "save_every=2", "steps=80", "validate_every=80", "global_batch=4"]
    overrides += ["adversarial.start_step=null", "shuffle_window=1", "segment_seconds=0.1"]
    if damage == "a few too many":
        content = bytearray(shard.read_bytes())
        content[2000::40_000] = bytes(len(content[2000::40_000]))  # many pairs, not all
        shard.write_bytes(content)
        message = "max_bad_fraction 0.02; for example"
    else:
        shard.unlink()
        overrides += ["max_bad_fraction=1"]
        message = "100 pairs in a row cannot be read; last: "
    process = launch(2, "-m", "timbre.train", write_config(tmp_path / "run", url, *overrides))
    assert process.returncode == 1
    assert process.stderr.count("timbre: error:") == 1
    assert message in process.stderr and "shard-000001.tar" in process.stderr
    checkpoint_url = checkpoints.latest(f"{tmp_path}/run/run")
    assert checkpoint_url is None or checkpoint.load(checkpoint_url)["gan"]["step"] % 2 == 0
