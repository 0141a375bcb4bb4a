"""DeepFilterNet3 as one of several denoisers: clips in batches, and by hop."""

from collections.abc import Sequence

import numpy as np
import torch

from timbre.audio import SAMPLE_RATE, Wave
from timbre.denoise.by_hop import DenoiserByHop
from timbre.denoise.model import DeepFilterNet3
from timbre.denoiser_names import DF3

# What batch_size counts.
CLIP_SAMPLES = 192_000
LENGTH_STEP = 12_000
USUAL_BATCH = 16


class Df3:
    """DeepFilterNet3, on the device that the model is on.

    Args:
        model: the network.
        batch_size: clips of 4 s at a time, fewer longer ones.
    """

    name = DF3
    sample_rate = SAMPLE_RATE
    # By hop it is late; whole clips come out in time.
    latency_samples = 0

    def __init__(self, model: DeepFilterNet3, batch_size: int = USUAL_BATCH) -> None:
        self.model, self._batch_size = model, batch_size
        self.weights_sha256 = model.weights_sha256

    def by_hop(self) -> DenoiserByHop:
        """Return the denoiser for live signals, with the weights of this one."""
        return DenoiserByHop(self.model).eval()

    def denoise_clips(self, clips: Sequence[Wave]) -> list[Wave]:
        """Return each ``(samples,)`` denoised, as long as it was; neighbours in length go together.

        A batch is as large in memory as its longest clip times its clips. The longest come first, and
        few lengths occur, so that what the allocator and oneDNN keep of one batch serves the next.
        Batches are formed from the lengths alone, so the result is the same on every machine that
        rounds the same.
        """
        waves: list[Wave] = [np.empty(0, np.float32)] * len(clips)
        device = next(self.model.parameters()).device
        rest = sorted(range(len(clips)), key=lambda i: -len(clips[i]))
        while rest:
            longest = max(-(-len(clips[rest[0]]) // LENGTH_STEP), 1) * LENGTH_STEP
            count = min(max(self._batch_size * CLIP_SAMPLES // longest, 1), self._batch_size)
            group, rest = rest[:count], rest[count:]
            lengths = torch.tensor([len(clips[i]) for i in group])
            batch = torch.zeros(len(group), longest)
            for row, i in enumerate(group):
                batch[row, : len(clips[i])] = torch.from_numpy(clips[i])
            denoised = self.model(batch.to(device), lengths.to(device)).cpu().numpy()
            for row, i in enumerate(group):
                waves[i] = denoised[row, : len(clips[i])]
        return waves
