"""The generators: networks that take DF3's output and return it with its timbre repaired."""

from typing import Literal

from pydantic.dataclasses import dataclass

from timbre.config import STRICT
from timbre.models.spectral import SpectralGenerator
from timbre.models.wave import WaveGenerator

Generator = SpectralGenerator | WaveGenerator


@dataclass(config=STRICT)
class GeneratorConfig:
    """Which generator: its kind, its size, whether it may look ahead, and what it hears."""

    name: Literal["spectral", "wave"] = "spectral"
    # tiny for tests and the demo (0.3-0.5 M parameters), small about 4 M, base 14 M.
    size: Literal["tiny", "small", "base"] = "small"
    causal: bool = False
    # Whether it may also hear what the denoiser heard, where there is that.
    noisy_input: bool = False


def build_generator(config: GeneratorConfig) -> Generator:
    """Return a fresh generator, which starts as the identity.

    Either kind maps ``(batch, 1, samples)`` float32 at 48 kHz to the same shape, for any number
    of samples from 1, and states its ``latency_samples`` and ``history_samples``. One with ``noisy_input`` takes
    ``forward(degraded, noisy)`` as well: ``noisy`` is the denoiser's input at the gain of its
    output and in time with it, and rows of zeros give what leaving it out gives.
    """
    kind = SpectralGenerator if config.name == "spectral" else WaveGenerator
    return kind(config.size, config.causal, config.noisy_input)
