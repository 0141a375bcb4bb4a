"""distillmos: a learned opinion score of all that is heard up to 8 kHz, without a reference.

A figure and never a loss. Its weights lie in the package.
"""

import contextlib
import io
import math
from functools import cache

import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from timbre import packages
from timbre.audio import SAMPLE_RATE
from timbre.audio.metrics import PERCEPTUAL_RATE

# The network needs about a quarter of a second.
SHORTEST = PERCEPTUAL_RATE // 2


@torch.inference_mode()
def opinion(wave: Tensor) -> float:
    """Return the mean opinion score of ``(samples,)`` at 48 kHz, 1 to 5; NaN where it is silent.

    Raises:
        MissingPackageError: ``distillmos`` is not installed.
    """
    packages.require("distillmos", "distillmos")
    if not wave.any() or not wave.isfinite().all():
        return math.nan
    audible = resample(wave.float().cpu(), SAMPLE_RATE, PERCEPTUAL_RATE)
    if len(audible) < SHORTEST:
        return math.nan
    return float(_network()(audible[None])[0, 0])


@cache
def _network() -> nn.Module:
    from distillmos import ConvTransformerSQAModel

    # It prints where its weights lie.
    with contextlib.redirect_stdout(io.StringIO()):
        network: nn.Module = ConvTransformerSQAModel().eval()
    return network
