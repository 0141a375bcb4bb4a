"""Whole shards for the tests of this folder."""

from pathlib import Path

import pytest

from tests.help.made_shards import (
    make_shards,
)


@pytest.fixture
def manifest_url(tmp_path: Path) -> str:
    return make_shards(tmp_path / "shards", [3, 2], audio_format="flac")
