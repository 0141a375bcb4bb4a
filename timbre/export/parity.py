"""How far an ONNX file's output is from PyTorch's."""

import numpy as np
import torch
from torch import Tensor

from timbre.audio import SAMPLE_RATE
from timbre.audio.synthetic.voice import voice
from timbre.export.onnx_file import OnnxPart
from timbre.export.part import ExportPart

# (batch, samples) of the comparison: the shortest, a hop, odd, whole hops, 4 s less a sample.
SHAPES = ((1, 1), (1, 480), (3, 4799), (2, 48_000), (1, 191_999))
NOISE = 0.01  # about 15 dB below the voice


def parity(data: bytes, part: ExportPart) -> float:
    """Return the largest difference between the file's outputs and PyTorch's, at every length.

    A part with a state is fed its own state back for as many hops as there are.
    """
    onnx_part = OnnxPart(data, part)
    differences = []
    for batch, samples in SHAPES:
        degraded, noisy = _signals(batch, samples)
        inputs = [degraded if name == "degraded" else noisy for name in part.signals]
        with torch.inference_mode():
            reference = part.whole(*inputs)
        for ours, theirs in zip(onnx_part(*inputs), reference, strict=True):
            differences.append((ours - theirs).abs().max())
    return float(torch.stack(differences).max())


def _signals(batch: int, samples: int) -> tuple[Tensor, Tensor]:
    """Return a voice and the voice in noise, ``(batch, 1, samples)``; there is no silence in front."""
    rng = np.random.default_rng(samples)
    seconds = samples / SAMPLE_RATE + 1
    voices = np.stack([voice(seconds, rng)[-samples:] for _ in range(batch)])[:, None]
    noise = NOISE * rng.standard_normal(voices.shape, dtype=np.float32)
    return torch.from_numpy(voices), torch.from_numpy(voices + noise)
