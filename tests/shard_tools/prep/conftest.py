"""Short clips of modulated noise, to be prepared without a denoiser."""

from pathlib import Path

import numpy as np
import pytest

from shard_tools.config import PrepConfig
from tests.help.plain_prep import plain_config
from timbre import audio


@pytest.fixture
def small(tmp_path: Path) -> PrepConfig:
    """60 short clips of noise-like speech without a denoiser: for tests of bookkeeping."""
    rng = np.random.default_rng(0)
    envelope = np.repeat(rng.uniform(0, 0.2, 50), 480).astype(np.float32)
    for number in range(60):
        wave = envelope * rng.standard_normal(24000).astype(np.float32)
        audio.write(tmp_path / f"speech/s{number % 6}/{number:02d}.wav", wave, 48000)
    for number in range(3):
        audio.write(
            tmp_path / f"noise/{number}.wav",
            rng.standard_normal(48000).astype(np.float32) / 8,
            48000,
        )
    return plain_config(str(tmp_path))
