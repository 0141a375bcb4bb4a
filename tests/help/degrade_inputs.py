"""Inputs of the denoisers' tests, and checks that every result passes."""

from typing import Any

import numpy as np

from shard_tools.degrade.degrade import DenoiserConfig, degrade
from timbre.audio import Wave, gain
from timbre.audio.align import MIN_CONFIDENCE, estimate_offset
from timbre.audio.synthetic.noise import noise
from timbre.audio.synthetic.voice import voice

MAX_OFFSET = 2400
Clips = list[tuple[Wave, Wave]]


def make_clips() -> Clips:
    return [speech(seconds, n) for n, seconds in enumerate((2.0, 1.1, 1.70001, 1.1, 2.3))]


def speech(seconds: float, seed: int) -> tuple[Wave, Wave]:
    """Return a voice, and the same voice at 10 dB in pink noise, each ``(samples,)``."""
    rng = np.random.default_rng([7, seed])
    clean = voice(seconds, rng)
    hiss = noise("pink", seconds, rng)
    scale = np.float32(clean.std() / hiss.std() * gain(-10.0))
    return clean, clean + scale * hiss


def onnx_config(path: str, **fields: Any) -> DenoiserConfig:
    return DenoiserConfig(name=f"onnx:{path}", **fields)


def assert_in_time(clips: Clips, denoiser: DenoiserConfig | str) -> None:
    config = DenoiserConfig(name=denoiser) if isinstance(denoiser, str) else denoiser
    degraded = degrade([pair[1] for pair in clips], config)
    for (clean, noisy), wave in zip(clips, degraded, strict=True):
        assert wave.shape == noisy.shape
        assert wave.dtype == np.float32
        estimate = estimate_offset(clean, wave, MAX_OFFSET)
        assert estimate.offset == 0
        assert estimate.confidence > MIN_CONFIDENCE
