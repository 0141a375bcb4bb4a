"""The networks, and the checkpoints that hold them."""

from timbre.models.checkpoint import (
    CAUSAL,
    OFFLINE,
    SHIPPED,
    load_generator,
    resolve,
    save_generator,
)
from timbre.models.generator import WITHOUT_WEIGHTS, Generator, GeneratorConfig, build_generator

__all__ = [
    "CAUSAL",
    "OFFLINE",
    "SHIPPED",
    "WITHOUT_WEIGHTS",
    "Generator",
    "GeneratorConfig",
    "build_generator",
    "load_generator",
    "resolve",
    "save_generator",
]
