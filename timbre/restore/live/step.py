"""The step of any causal generator."""

from timbre.models import Generator
from timbre.models.spectral import SpectralGenerator
from timbre.models.wave_by_hop import WaveStep
from timbre.restore.live.spectral import FastSpectralStep
from timbre.restore.live.wave import FastWaveStep


def build_fast_step(generator: Generator) -> FastSpectralStep | FastWaveStep:
    """Return a step for a hop or a few at a time on a CPU, with the generator's weights of now.

    Hops and a state go in, restored hops and the next state come out.

    Raises:
        ValueError: the generator looks ahead.
    """
    if isinstance(generator, SpectralGenerator):
        return FastSpectralStep(generator)
    return FastWaveStep(WaveStep(generator))
