"""Variety: what other people's recordings have and a corpus lacks. All of it is off by default."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from shard_tools.mix.codec import USUAL, CodecName
from timbre.config import STRICT, Fraction, Positive

LOW_PASSES_HZ = (6000.0, 8000.0, 11000.0, 14000.0, 16000.0, 18000.0, 20000.0, 22000.0)
Decibels = tuple[float, float]


@dataclass(config=STRICT)
class VarietyConfig:
    """Shares of the pairs, and ranges from which each pair draws its own value."""

    # Speech, or the noise, ends at one of low_pass_hz: each side has a bandwidth of its own.
    speech_low_pass_share: Fraction = 0.0
    noise_low_pass_share: Fraction = 0.0
    low_pass_hz: Annotated[tuple[Positive, ...], Field(min_length=1)] = LOW_PASSES_HZ
    # A smooth curve of up to so many dB up and down over eight bands.
    speech_equaliser_share: Fraction = 0.0
    noise_equaliser_share: Fraction = 0.0
    equaliser_db: Positive = 6.0
    # A silence in the midst of the speech.
    gap_share: Fraction = 0.0
    gap_seconds: tuple[Positive, Positive] = (0.8, 2.0)
    # Each noise is made up (see shard_tools.mix.made_noise), else a recording.
    made_noise_share: Fraction = 0.0
    # Recorded noises faster or slower, by a factor between these, and backwards.
    noise_speed_share: Fraction = 0.0
    noise_speeds: tuple[Positive, Positive] = (0.7, 1.4)
    noise_backwards_share: Fraction = 0.0
    # Another noise, so much louder, takes over at once.
    noise_change_share: Fraction = 0.0
    noise_change_db: Decibels = (-15.0, 15.0)
    # Hiss under the speech, beside the noise.
    hiss_share: Fraction = 0.0
    hiss_below_db: Decibels = (20.0, 50.0)
    # Both sides end where a telephone does, and the noisy one went through one of the codecs.
    telephone_share: Fraction = 0.0
    telephone_codecs: Annotated[tuple[CodecName, ...], Field(min_length=1)] = USUAL

    def __post_init__(self) -> None:
        for name in ("gap_seconds", "noise_speeds", "noise_change_db", "hiss_below_db"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} [{low}, {high}]: expected the lower one first")


@dataclass(config=STRICT)
class TargetConfig:
    """What the clean side is, beside the room that it keeps (``reverb.target_early_seconds``)."""

    # The pauses of the clean side are changed by this, so that a recording's own background is not
    # taught; null: the recording as it is.
    pause_db: Annotated[float, Field(lt=0)] | None = None
    # The share of the pairs in which the noisy side's pauses are lowered as well. In the others the
    # recording's background is part of the noise.
    quiet_input_share: Fraction = 0.5
