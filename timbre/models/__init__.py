"""The generators: networks that take DF3's output and return it with its timbre repaired."""

from typing import Literal

from pydantic.dataclasses import dataclass

from timbre.config import STRICT
from timbre.models.spectral import SpectralGenerator
from timbre.models.wave import WaveGenerator


@dataclass(config=STRICT)
class GeneratorConfig:
    """Which generator: its kind, its size, and whether it may look ahead."""

    name: Literal["spectral", "wave"] = "spectral"
    # tiny for tests and the demo (0.3-0.5 M parameters), small about 4 M, base 14 M.
    size: Literal["tiny", "small", "base"] = "small"
    causal: bool = False


def build_generator(config: GeneratorConfig) -> SpectralGenerator | WaveGenerator:
    """Return a fresh generator, which starts as the identity.

    Either kind maps ``(batch, 1, samples)`` float32 at 48 kHz to the same shape, for any number
    of samples from 1, and states its ``latency_samples``.
    """
    if config.name == "spectral":
        return SpectralGenerator(config.size, config.causal)
    return WaveGenerator(config.size, config.causal)
