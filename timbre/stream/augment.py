"""Batch augmentation on the device: parameters are drawn apart from applying them.

They come from (seed, epoch, position in the epoch's order), so they are the same at any number of
ranks and after any resume.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from torch import Tensor

from timbre.audio import SAMPLE_RATE, filters
from timbre.config import STRICT, Fraction
from timbre.stream.batches import PairBatch

# Keeps these draws apart from those of the crop, which uses (seed, epoch, position) alone.
STREAM = 1
# A segment that has holes has from one to this many.
HOLES = 8
HOLE_SECONDS = (0.04, 0.25)
HOLE_OCTAVES = (0.25, 1.0)
# The middle of a hole, drawn evenly over octaves.
HOLE_HZ = (500.0, 12000.0)
# How many uniform numbers a pair takes: see `draw`.
SCALARS, PER_HOLE = 10, 5

# What each pair of keys may span.
SPANS = {
    ("gain_low", "gain_high"): (0.1, 1.0),
    ("low_pass_low_hz", "low_pass_high_hz"): (1000.0, SAMPLE_RATE / 2),
    ("tilt_low_db", "tilt_high_db"): (-6.0, 6.0),
    ("residual_low_db", "residual_high_db"): (-60.0, 20.0),
    ("hole_low_db", "hole_high_db"): (0.0, 60.0),
}


@dataclass(config=STRICT)
class AugmentConfig:
    """How often each change is made, and between which bounds it is drawn.

    Gain, polarity, low-pass and tilt are those of a recording, the same for all sides; residual and
    holes are the denoiser's, on the degraded side alone.
    """

    gain_low: float = 0.8
    gain_high: float = 1.0
    flip_polarity: bool = False
    # Speech corpora end at 15 to 19 kHz; a network that sees only those learns to cut what lies
    # above. A cut at random frequencies makes it look at its input's own bandwidth.
    low_pass_share: Fraction = 0.3
    low_pass_low_hz: float = 4000.0
    low_pass_high_hz: float = 20000.0
    # Per octave about 1 kHz: microphones and rooms.
    tilt_share: Fraction = 0.3
    tilt_low_db: float = -1.5
    tilt_high_db: float = 1.5
    # The level of what the degraded side holds beyond the clean one.
    residual_share: Fraction = 0.3
    residual_low_db: float = -6.0
    residual_high_db: float = 6.0
    # By how much holes in the degraded side are lower than their surroundings.
    hole_share: Fraction = 0.2
    hole_low_db: float = 3.0
    hole_high_db: float = 15.0
    # How often the noisy side is withheld.
    noisy_dropout: Fraction = 0.3

    def __post_init__(self) -> None:
        wrong = []
        for (low_key, high_key), (least, most) in SPANS.items():
            low, high = getattr(self, low_key), getattr(self, high_key)
            if not least <= low <= high <= most:
                wrong.append(
                    f"{low_key} {low}, {high_key} {high}: expected {least} <= low <= high <= {most}"
                )
        if wrong:
            raise ValueError("; ".join(wrong))


class Sides(NamedTuple):
    """A batch of pairs: waveforms ``(batch, 1, samples)`` float32, the bandwidth ``(batch,)``."""

    degraded: Tensor
    clean: Tensor
    noisy: Tensor | None
    bandwidth_hz: Tensor


def augment(batch: PairBatch, config: AugmentConfig, seed: int) -> Sides:
    """Return the batch's waveforms as float32, augmented on the device that they are on."""
    parameters = draw(config, seed, batch.epoch, batch.positions)
    return apply(parameters.to(batch.degraded.device), sides_of(batch))


def sides_of(batch: PairBatch) -> Sides:
    """Return the batch's waveforms as float32, as they are."""
    degraded, clean, noisy = (
        None if wave is None else wave.float()[:, None] / 32768
        for wave in (batch.degraded, batch.clean, batch.noisy)
    )
    assert degraded is not None and clean is not None
    return Sides(degraded, clean, noisy, batch.bandwidth_hz)


class Draw(NamedTuple):
    """One batch's parameters, each ``(batch,)`` but the holes, which are ``(batch, HOLES, 5)``.

    ``gain`` is signed, ``residual`` the residual's factor, ``keep_noisy`` 1 or 0; for ``holes`` see
    :func:`timbre.audio.filters.hole_gain`. What is not done to a pair has the value that does nothing.
    """

    gain: Tensor
    low_pass_hz: Tensor
    tilt_db: Tensor
    residual: Tensor
    keep_noisy: Tensor
    holes: Tensor

    def to(self, device: torch.device) -> "Draw":
        """Return the parameters on a device, without waiting for it."""
        # A copy from memory that is not pinned may wait for all that the device has yet to do.
        values = (value.pin_memory() for value in self) if device.type == "cuda" else self
        return Draw(*(value.to(device, non_blocking=True) for value in values))


def draw(config: AugmentConfig, seed: int, epoch: int, positions: Tensor) -> Draw:
    """Return the parameters for the pairs at ``positions`` ``(batch,)`` of an epoch's order."""
    parameters = np.empty((len(positions), SCALARS + PER_HOLE * HOLES))
    for row, position in zip(parameters, positions.tolist(), strict=True):
        np.random.default_rng([seed, epoch, position, STREAM]).random(out=row)
    uniform: Iterator[NDArray[np.float64]] = iter(parameters[:, :SCALARS].T)

    sign = np.where((next(uniform) < 0.5) & config.flip_polarity, -1, 1)
    gain = sign * _between(config.gain_low, config.gain_high, next(uniform))
    cut_hz = _between(config.low_pass_low_hz, config.low_pass_high_hz, next(uniform))
    low_pass_hz = np.where(next(uniform) < config.low_pass_share, cut_hz, SAMPLE_RATE / 2)
    slope_db = _between(config.tilt_low_db, config.tilt_high_db, next(uniform))
    tilt_db = np.where(next(uniform) < config.tilt_share, slope_db, 0)
    level_db = _between(config.residual_low_db, config.residual_high_db, next(uniform))
    residual = np.where(next(uniform) < config.residual_share, 10 ** (level_db / 20), 1)
    keep_noisy = np.where(next(uniform) < config.noisy_dropout, 0, 1)
    # One number says whether there are holes and, being uniform below the share, how many.
    below = config.hole_share - next(uniform)
    count = np.ceil(below.clip(0) / max(config.hole_share, 1e-9) * HOLES)
    holes = _holes(config, count, parameters[:, SCALARS:].reshape(-1, HOLES, PER_HOLE))
    values = (gain, low_pass_hz, tilt_db, residual, keep_noisy, holes)
    return Draw(*(torch.from_numpy(value.astype(np.float32)) for value in values))


def apply(parameters: Draw, sides: Sides) -> Sides:
    """Return the sides changed, and the bandwidth that is left after the low-pass.

    Filters and residual can carry a pair past full scale; it is then lowered as a whole, all sides
    by one factor. Runs in float32 whatever autocast says.

    Args:
        parameters: on the waveforms' device.
        sides: waveforms within full scale; without ``noisy``, there is none in what is returned.
    """
    with torch.autocast(sides.clean.device.type, enabled=False):
        waves = [_denoised_otherwise(parameters, sides.degraded, sides.clean), sides.clean]
        if sides.noisy is not None:
            waves.append(sides.noisy * parameters.keep_noisy[:, None, None])
        together = torch.cat(waves, dim=1) * parameters.gain[:, None, None]
        frequency = filters.frequencies_hz(together)
        response = filters.low_pass_response(frequency, parameters.low_pass_hz)
        response = response * filters.tilt_response(frequency, parameters.tilt_db)
        together = filters.apply_response(together, response)
        together = together / together.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1)
        degraded, clean, *noisy = together.chunk(len(waves), dim=1)
        bandwidth_hz = torch.minimum(sides.bandwidth_hz, parameters.low_pass_hz)
        return Sides(degraded, clean, noisy[0] if noisy else None, bandwidth_hz)


def _denoised_otherwise(parameters: Draw, degraded: Tensor, clean: Tensor) -> Tensor:
    """Return degraded ``(batch, 1, samples)`` with its residual at another level, and with holes."""
    samples = degraded.shape[-1]
    spectra, clean_spectra = filters.analyse(degraded[:, 0]), filters.analyse(clean[:, 0])
    gain = filters.residual_gain(spectra, clean_spectra, parameters.residual)
    gain = gain * filters.hole_gain(parameters.holes, spectra.shape[1], samples)
    return degraded + filters.synthesise(spectra * (gain - 1), samples)[:, None]


def _holes(
    config: AugmentConfig, count: NDArray[np.float64], uniform: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return holes ``(batch, HOLES, 5)``, of which the first ``count`` have a depth."""
    depth_db = _between(config.hole_low_db, config.hole_high_db, uniform[..., 0])
    there = np.arange(HOLES) < count[:, None]
    return np.stack(
        [
            np.where(there, depth_db, 0),
            uniform[..., 1],
            _between(*HOLE_SECONDS, uniform[..., 2]),
            HOLE_HZ[0] * (HOLE_HZ[1] / HOLE_HZ[0]) ** uniform[..., 3],
            _between(*HOLE_OCTAVES, uniform[..., 4]),
        ],
        axis=-1,
    )


def _between(low: float, high: float, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    return low + (high - low) * uniform
