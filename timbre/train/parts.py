"""The parts of a step by name: what its profile and its count of operators are divided into."""

from torch.profiler import record_function

AUGMENTATION = "augmentation"
GENERATOR = "generator"
RECONSTRUCTION = "reconstruction"
DISCRIMINATOR = "discriminator"
ADVERSARIAL = "adversarial"
OPTIMIZERS = "optimizers"
WATCHING = "watching"
PARTS = (AUGMENTATION, GENERATOR, RECONSTRUCTION, DISCRIMINATOR, ADVERSARIAL, OPTIMIZERS, WATCHING)


def part(name: str) -> record_function:
    """Return the context of what a part does, its way back included."""
    return record_function(f"timbre/{name}")
