"""One set of shards, and one evaluation, for all tests of this folder."""

from pathlib import Path

import pytest

from tests.help.evaluations import GAIN_OF_TWO, PAIRS, run, save_with_gain, several_speakers
from tests.help.made_shards import make_shards


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    return several_speakers(make_shards(folder, (1,), (PAIRS - 2, 2)))


@pytest.fixture(scope="session")
def better_run(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of the checkpoint that undoes the damage of the made shards."""
    folder = tmp_path_factory.mktemp("better_run")
    run(
        save_with_gain(folder / "g.safetensors", GAIN_OF_TWO),
        manifest,
        folder / "out",
        "--harm-pairs",
        "2",
    )
    return folder / "out"
