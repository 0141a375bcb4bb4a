"""The networks, and the checkpoints that hold them."""

from timbre.models.checkpoint import (
    CAUSAL,
    NAMES_OF_OURS,
    OFFLINE,
    load_checkpoint,
    load_generator,
    resolve,
    save_generator,
)
from timbre.models.generator import WITHOUT_WEIGHTS, Generator, GeneratorConfig, build_generator
from timbre.models.learned import strangeness

__all__ = [
    "CAUSAL",
    "NAMES_OF_OURS",
    "OFFLINE",
    "WITHOUT_WEIGHTS",
    "Generator",
    "GeneratorConfig",
    "build_generator",
    "load_checkpoint",
    "load_generator",
    "resolve",
    "save_generator",
    "strangeness",
]
