"""Settings of a restored signal: the shares in it, its channels. And checks of the input."""

from dataclasses import dataclass, field

import numpy as np

from timbre.audio import SAMPLE_RATE, Wave, check_rates
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

    Raises:
        AudioError: a share is not between 0 and 1.
    """

    strength: float = 1.0
    dry: float = 0.0
    link: bool | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, share in (("strength", self.strength), ("dry", self.dry)):
            if not 0 <= share <= 1:
                raise AudioError(f"{name} {share}: expected 0 to 1")


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
