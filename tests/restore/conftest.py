"""Restorers of small random networks."""

import pytest

from tests.help.moved_generators import build
from timbre.models import GeneratorConfig, checkpoint
from timbre.restore import Restorer


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("checkpoint") / "made.safetensors")
    config = GeneratorConfig("spectral", "tiny", causal=False, noisy_input=True)
    checkpoint.save_generator(path, build("spectral", moved=True, noisy_input=True), config, {})
    return path


@pytest.fixture(scope="session")
def restorer(checkpoint_path: str) -> Restorer:
    return Restorer.load(checkpoint_path, device="cpu")


@pytest.fixture(scope="session")
def through() -> Restorer:
    """A restorer without networks: a file passes all stages and stays as it is."""
    return Restorer(None, None)
