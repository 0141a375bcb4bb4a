"""A job over recordings without known speakers."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from shard_tools.config import PrepConfig
from shard_tools.executors.local import run_local
from shard_tools.make.job import Job, open_job
from shard_tools.plan.editions import Edition, begin_edition
from shard_tools.prep.prep import ALL
from tests.conftest import ROOT
from timbre import config as configs


class SmallPrep(NamedTuple):
    config: PrepConfig
    edition: Edition
    job: Job
    sources: Path


@pytest.fixture(scope="module")
def small_prep(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> SmallPrep:
    """A job whose noises and rooms are gone from the disk before its first shard is made."""
    sources = tmp_path_factory.mktemp("audit")
    shutil.copytree(corpus, sources, dirs_exist_ok=True)
    (sources / "manifest.jsonl").unlink()  # it names the speakers
    overrides = [f"{role}={sources}/{role}" for role in ("speech", "noise", "rir")]
    overrides += [f"output={sources}/out", "denoiser.name=none", "reverb.share=1", "workers=1"]
    overrides += ["clips.speaker_level=null", "mix.babble_share=0"]
    config = configs.load(PrepConfig, ROOT / "configs/prep_tiny.yaml", overrides)
    edition = begin_edition(config, [], "", run_local, ALL)
    assert edition is not None
    job = open_job(config, edition)
    for role in ("noise", "rir"):
        shutil.rmtree(sources / role)
    return SmallPrep(config, edition, job, sources)
