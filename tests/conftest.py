"""What several test files start from: a made-up corpus, and shards that `timbre prep` made of it."""

from pathlib import Path

import pytest
import torch

from shard_tools.config import PrepConfig
from shard_tools.prep.command import prep
from timbre import config as configs
from timbre.audio.synthetic.noise import write_corpus

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """speech/ noise/ rir/ manifest.jsonl: 4 speakers with 2 clips of 4.5 s."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, seed=5, speakers=4, clips_per_speaker=2, seconds=4.5)
    return folder


@pytest.fixture(scope="session")
def prep_config(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> PrepConfig:
    return configs.load(
        PrepConfig,
        ROOT / "configs/prep_tiny.yaml",
        [
            *(f"{role}={corpus}/{role}" for role in ("speech", "noise", "rir")),
            f"output={tmp_path_factory.mktemp('shards')}",
            "workers=1",
            "reverb.share=0.2",
        ],
    )


@pytest.fixture(scope="session")
def manifest_url(prep_config: PrepConfig) -> str:
    """The manifest of shards with DeepFilterNet3's real output."""
    prep(prep_config)
    return f"{prep_config.output}/manifest.json"
