"""The step of any causal generator."""

from timbre.models import Generator
from timbre.models.fast_spectral import FastSpectralStep
from timbre.models.fast_wave import FastWaveStep
from timbre.models.spectral import SpectralGenerator
from timbre.models.wave_step import WaveStep


def build_fast_step(generator: Generator) -> FastSpectralStep | FastWaveStep:
    """Return a step for a hop or a few at a time on a CPU, with the generator's weights of now.

    Hops and a state go in, restored hops and the next state come out.

    Raises:
        ValueError: the generator looks ahead.
    """
    if isinstance(generator, SpectralGenerator):
        return FastSpectralStep(generator)
    return FastWaveStep(WaveStep(generator))
