"""Generators for tests, at their identity start or moved away from it."""

import torch
from torch import Tensor

from timbre.models.generator import GeneratorConfig, build_generator

NAMES = ("spectral", "wave")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(
    name: str,
    size: str = "tiny",
    causal: bool = False,
    moved: bool = False,
    noisy_input: bool = False,
    limits: bool = False,
) -> torch.nn.Module:
    """A generator, ``moved`` away from its identity start; ``limits`` that it reaches."""
    torch.manual_seed(0)
    bounds = (6.0, noisy_input, True) if limits else (None, False, False)
    generator = build_generator(GeneratorConfig(name, size, causal, noisy_input, *bounds))  # type: ignore[arg-type]
    if moved:
        for index, parameter in enumerate(generator.parameters()):
            parameter.data += 0.05 * noise(*parameter.shape, seed=index)
    return generator
