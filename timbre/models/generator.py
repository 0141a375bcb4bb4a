"""The generators: networks that take DF3's output and return it with its timbre repaired."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from timbre.config import STRICT
from timbre.models.checks import Size
from timbre.models.spectral import SpectralGenerator
from timbre.models.wave import WaveGenerator

Generator = SpectralGenerator | WaveGenerator

# Keys that change what a generator does with its weights, but not the weights: any checkpoint may be
# run, or trained on, with others.
WITHOUT_WEIGHTS = frozenset({"max_lift_db", "limit_change", "limit_pauses"})


@dataclass(config=STRICT)
class GeneratorConfig:
    """Which generator: its kind, its size, whether it may look ahead, and what it hears."""

    name: Literal["spectral", "wave"] = "spectral"
    # tiny for tests and the demo (0.3-0.5 M parameters), small about 4 M, base 14 M.
    size: Size = "small"
    causal: bool = False
    # Whether it may also hear what the denoiser heard, where there is that.
    noisy_input: bool = False
    # How far the output may rise above the denoiser's output around a bin; null: without a limit.
    max_lift_db: Annotated[float, Field(ge=1, le=100)] | None = None
    # Whether a bin may change by no more than what the denoiser removed around it.
    limit_change: bool = False
    # Whether max_lift_db holds in speech alone, and falls to 1 dB in pauses.
    limit_pauses: bool = False

    def __post_init__(self) -> None:
        if self.name == "wave" and (self.max_lift_db is not None or self.limit_change):
            raise ValueError(
                "name wave with max_lift_db or limit_change: the limits hold for the bins of a "
                "spectrum, and the wave generator adds samples; expected name: spectral, or neither"
            )
        if self.limit_pauses and self.max_lift_db is None:
            raise ValueError(
                "limit_pauses: true with max_lift_db: null: there is no limit that could fall in "
                "pauses; expected a number of dB as max_lift_db, or limit_pauses: false"
            )
        if self.limit_change and not self.noisy_input:
            raise ValueError(
                "limit_change: true with noisy_input: false: what the denoiser removed is known "
                "only with its input; expected noisy_input: true, or limit_change: false"
            )


def build_generator(config: GeneratorConfig) -> Generator:
    """Return a fresh generator, which starts as the identity.

    Either kind maps ``(batch, 1, samples)`` float32 at 48 kHz to the same shape, for any number
    of samples from 1, and states its ``latency_samples`` and ``history_samples``. One with ``noisy_input`` takes
    ``forward(degraded, noisy)`` as well: ``noisy`` is the denoiser's input at the gain of its
    output and in time with it, and rows of zeros give what leaving it out gives.
    """
    if config.name == "wave":
        return WaveGenerator(config.size, config.causal, config.noisy_input)
    return SpectralGenerator(
        config.size,
        config.causal,
        config.noisy_input,
        config.max_lift_db,
        config.limit_change,
        config.limit_pauses,
    )
