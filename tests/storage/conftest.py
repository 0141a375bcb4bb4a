"""A folder by path and by URL; files to be cached and processes that cache them."""

from pathlib import Path

import pytest

from tests.storage import cached_files

source, folder, start = cached_files.source, cached_files.folder, cached_files.start


@pytest.fixture(params=["local", "file", "memory"])
def folder_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "local": str(tmp_path),
        "file": f"file://{tmp_path}",
        "memory": f"memory://{tmp_path.name}",
    }[request.param]
