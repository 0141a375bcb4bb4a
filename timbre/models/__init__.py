"""The networks, and the checkpoints that hold them."""

from timbre.models.checkpoint import load_generator, save_generator
from timbre.models.generator import WITHOUT_WEIGHTS, Generator, GeneratorConfig, build_generator

__all__ = [
    "WITHOUT_WEIGHTS",
    "Generator",
    "GeneratorConfig",
    "build_generator",
    "load_generator",
    "save_generator",
]
