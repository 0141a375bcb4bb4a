"""The step of any causal generator."""

from timbre.models.fast_spectral import FastSpectralStep
from timbre.models.fast_wave import FastWaveStep
from timbre.models.spectral import SpectralGenerator
from timbre.models.spectral_step import SpectralStep
from timbre.models.wave import WaveGenerator
from timbre.models.wave_step import WaveStep


def build_step(generator: SpectralGenerator | WaveGenerator) -> SpectralStep | WaveStep:
    """Return the generator as a step: hops and a state in, restored hops and the next state out.

    Raises:
        ValueError: the generator looks ahead.
    """
    if isinstance(generator, SpectralGenerator):
        return SpectralStep(generator)
    return WaveStep(generator)


def build_fast_step(
    generator: SpectralGenerator | WaveGenerator,
) -> FastSpectralStep | FastWaveStep:
    """Return a step for a hop or a few at a time on a CPU, with the generator's weights of now.

    Raises:
        ValueError: the generator looks ahead.
    """
    if isinstance(generator, SpectralGenerator):
        return FastSpectralStep(generator)
    return FastWaveStep(WaveStep(generator))
