"""The parts of a step by name: what its profile and its count of operators are divided into."""

from torch.profiler import record_function

DATA = "data"
AUGMENTATION = "augmentation"
GENERATOR = "generator"
RECONSTRUCTION = "reconstruction"
DISCRIMINATOR = "discriminator"
ADVERSARIAL = "adversarial"
OPTIMIZERS = "optimizers"
WATCHING = "watching"
# Of a step; reading comes before it.
PARTS = (AUGMENTATION, GENERATOR, RECONSTRUCTION, DISCRIMINATOR, ADVERSARIAL, OPTIMIZERS, WATCHING)
# What the names in a trace begin with.
PREFIX = "timbre/"


def part(name: str) -> record_function:
    """Return the context of what a part does, its way back included."""
    return record_function(PREFIX + name)
