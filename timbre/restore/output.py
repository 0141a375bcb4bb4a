"""Settings of a restored signal: the shares in it, its channels. And checks of the input."""

import math
from dataclasses import dataclass, field

import numpy as np

from timbre.audio import SAMPLE_RATE, Wave, check_rates, gain
from timbre.errors import AudioError

# How much goes from stage to stage.
BLOCK_SECONDS = 5.0
# What a command line says of two channels.
LINK_BY_WORD = {"linked": True, "apart": False}


@dataclass(frozen=True)
class Output:
    """The shares that a restored signal is made of.

    Attributes:
        strength: the share of the correction; 0 gives the denoiser's output exactly.
        dry: the share of the input, in phase; 1 gives the input exactly.
        link: whether two channels are linked, so that the voice stays where it is, or restored apart;
            None links those that are alike.
        attenuation_limit_db: so much is the noise quieter at most, as in DeepFilterNet's
            ``enhance(…, atten_lim_db=…)``: that much of the input is mixed in, in phase. The sign
            does not matter; 0 is no limit.

    Raises:
        AudioError: a share is not between 0 and 1, or there is both a share of the input and a limit.
    """

    strength: float = 1.0
    dry: float = 0.0
    link: bool | None = field(default=None, kw_only=True)
    attenuation_limit_db: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        for name, share in (("strength", self.strength), ("dry", self.dry)):
            if not 0 <= share <= 1:
                raise AudioError(f"{name} {share}: expected 0 to 1")
        if not math.isfinite(self.attenuation_limit_db):
            raise AudioError(f"attenuation_limit_db {self.attenuation_limit_db}: expected decibels")
        if self.attenuation_limit_db and self.dry:
            raise AudioError(
                f"attenuation_limit_db {self.attenuation_limit_db}: mixes the input in, as dry "
                f"{self.dry} does; expected one of the two"
            )

    @property
    def input_share(self) -> float:
        """The share of the input, in phase, however it was asked for."""
        limit_db = abs(self.attenuation_limit_db)
        return gain(-limit_db) if limit_db else self.dry


FULL_OUTPUT = Output()


def check_waveform(array: Wave) -> None:
    """Raise AudioError for what is no waveform."""
    finite = np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all()
    if array.ndim not in (1, 2, 3) or array.size == 0 or not finite:
        raise AudioError(
            f"waveform of shape {array.shape} and type {array.dtype}: expected finite floats "
            "(samples,), (channels, samples) or (batch, channels, samples)"
        )


def check_output_rates(sample_rate: int, rate: int) -> None:
    """Raise AudioError for rates of input and output that cannot be brought together."""
    for hertz in (sample_rate, rate):
        if not isinstance(hertz, int | np.integer) or hertz < 1:
            raise AudioError(f"sample rate {hertz} Hz: expected a whole number of at least 1")
        check_rates(hertz, SAMPLE_RATE)
    check_rates(sample_rate, rate)


def check_finite(block: Wave) -> Wave:
    """Return a block of a restored signal; AudioError if the networks made NaN or infinity of it."""
    if not np.isfinite(block).all():
        raise AudioError(
            "the restored sound is not finite: the checkpoint's weights are damaged, or do not fit "
            "its settings; use another checkpoint"
        )
    return block


def block_size(sample_rate: int) -> int:
    """Return how many samples go from stage to stage at a rate."""
    return max(round(BLOCK_SECONDS * sample_rate), 1)
