"""One shard from its plan: refused pairs are counted, never written."""

import json
from pathlib import Path

from shard_tools.judge.quality import QualityConfig
from shard_tools.make.job import shard_task
from shard_tools.make.shard import make_shard
from tests.shard_tools.conftest import SmallPrep
from timbre import shards


def test_prep_writes_no_refused_pair_and_counts_each_in_its_index(
    small_prep: SmallPrep, tmp_path: Path
) -> None:
    strict = QualityConfig(min_active_seconds=1.9)
    job = small_prep.job.settings._replace(folder=str(tmp_path), quality=strict)
    shard = small_prep.job.plan.shards()[0]
    task = shard_task(small_prep.config, small_prep.job, shard)
    make_shard(job, task)
    path = shards.shard_path(*shard)
    index = json.loads((tmp_path / shards.index_path(path)).read_text())
    refusals = {reason: len(pairs) for reason, pairs in index["rejected"].items()}
    assert refusals["silent_clean"] > 0 and len(index["pairs"]) > 0
    assert sum(refusals.values()) + len(index["pairs"]) == len(task.pieces)
