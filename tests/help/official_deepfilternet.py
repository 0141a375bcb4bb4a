"""The official `deepfilternet` package where it is installed, and other weights for it."""

import importlib.util

import torch

from timbre.denoise.official_package import Official

__all__ = ["INSTALLED", "Official", "randomize"]

INSTALLED = all(importlib.util.find_spec(name) is not None for name in ("df", "libdf"))


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Shake all weights a little, and give the batch norms statistics that a training could."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.rand(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise)
            elif name.endswith("running_mean"):
                tensor.copy_(0.2 * noise - 0.1)
            elif tensor.is_floating_point() and "erb" not in name.rpartition(".")[2]:
                tensor.mul_(0.8 + 0.4 * noise)
