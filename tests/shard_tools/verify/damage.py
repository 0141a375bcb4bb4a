"""Shards to check, and what the tests do to them."""

from collections.abc import Callable
from dataclasses import replace

from shard_tools.make.tar import FinishedPair
from shard_tools.verify.manifest import Report
from timbre import shards
from timbre.shards import PairEntry
from timbre.storage import files as storage

TRAIN, OTHER, VAL = "train/shard-000000.tar", "train/shard-000001.tar", "val/shard-000000.tar"
OTHER_KEY = "train-000001"


def kinds(report: Report) -> set[str]:
    return {fault.kind for fault in report.faults}


def tar_url(manifest_url: str, path: str = TRAIN) -> str:
    return storage.join(shards.folder_of(manifest_url), path)


def pair_entry(manifest_url: str, number: int = 1) -> PairEntry:
    url = tar_url(manifest_url)
    return shards.index_tar(storage.read(url), url).pairs[number]


def with_meta(**fields: object) -> Callable[[FinishedPair], FinishedPair]:
    return lambda pair: pair._replace(meta=replace(pair.meta, **fields))
