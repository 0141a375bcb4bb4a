"""Which shards of an edition are finished: index and tar, as long as they were."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shard_tools.config import PrepConfig
from shard_tools.make.job import shard_task
from shard_tools.make.manifest import missing_shards, planned_shards
from shard_tools.make.shard import make_shard
from shard_tools.prep.prep import prep
from tests.help.small_prep import contents, write_config, write_sources
from tests.shard_tools.conftest import SmallPrep
from timbre import config as configs
from timbre import shards

SHARD = "train/shard-000001.tar"


@pytest.fixture(scope="module")
def config_of_whole(tmp_path_factory: pytest.TempPathFactory) -> PrepConfig:
    folder = tmp_path_factory.mktemp("lost")
    path = write_config(write_sources(folder), folder / "out")
    overrides = ["denoiser.name=none", "workers=1", "shard_pairs=12", "quality.min_clean_db=-90"]
    config = configs.load(PrepConfig, path, overrides)
    assert prep(config) is not None
    return config


def lose(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


@pytest.mark.parametrize(
    ("name", "spoil"), [(SHARD, lose), (SHARD, shorten), (shards.index_path(SHARD), lose)]
)
def test_a_shard_that_is_lost_or_cut_is_made_again_with_the_same_bytes(
    config_of_whole: PrepConfig, name: str, spoil: Callable[[Path], None]
) -> None:
    output = Path(config_of_whole.output)
    before = contents(output)
    assert name in before
    spoil(output / name)
    prep(config_of_whole)
    assert contents(output) == before


def test_before_there_is_a_manifest_a_shard_needs_both_its_files(small_prep: SmallPrep) -> None:
    """A worker was killed between the two, or a disk lost one of them."""
    config, job, edition = small_prep.config, small_prep.job, small_prep.edition
    first, second, *_ = planned_shards(edition)
    for shard in (first, second):
        make_shard(job.settings, shard_task(config, job, shard))
    missing = missing_shards(config.output, edition)
    assert first not in missing and second not in missing
    tar = Path(config.output) / shards.shard_path(*first)
    whole = tar.read_bytes()
    tar.unlink()
    assert missing_shards(config.output, edition) == [first, *missing]
    make_shard(job.settings, shard_task(config, job, first))
    assert tar.read_bytes() == whole
    shorten(tar)
    make_shard(job.settings, shard_task(config, job, first))
    assert tar.read_bytes() == whole
