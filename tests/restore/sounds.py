"""Noisy sound, its files, and one file restored."""

from pathlib import Path

import numpy as np

from timbre.audio import Wave, encode_wave
from timbre.audio.synthetic.voice import voice
from timbre.restore import Restorer
from timbre.restore.files import FileTask, restore_file
from timbre.restore.output import FULL_OUTPUT, Output


def noisy(seconds: float, seed: int = 0) -> Wave:
    rng = np.random.default_rng(seed)
    clean = voice(seconds, rng)
    return clean + 0.01 * rng.standard_normal(len(clean)).astype(np.float32)


def restore(
    restorer: Restorer,
    source: Path,
    target: Path,
    output: Output = FULL_OUTPUT,
    rate: int | None = None,
) -> list[float]:
    shares: list[float] = []
    restore_file(restorer, FileTask(str(source), str(target), 1, rate), output, shares.append)
    return shares


def encode(wave: Wave) -> bytes:
    """Return the bytes of a 16-bit WAV file."""
    return encode_wave(wave, 48_000)
