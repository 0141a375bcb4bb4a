"""What a generator may make of a denoised spectrum at most, whatever its weights.

Two limits bend magnitudes down. The limit of the change: a bin changes by no more than the level of
what the denoiser removed around it. From clean speech the denoiser removes little, so the speech
stays as it is. The limit of the lift: a bin rises above the denoiser's own level around it by no
more than some decibels. Where the denoiser left silence, noise cannot come back.

The lift may fall in pauses. There its limit is 1 dB, and in speech it is the full one: noise between
words stays as quiet as the denoiser made it, and weak consonants beside vowels are still restored.

The change is limited first. The lift's limit then never enlarges the change: it takes a bin back
towards a magnitude that is still above the denoised bin's.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# A spectrum or a change of one, real and imaginary, each (batch, frames, bins).
Spectrum = tuple[Tensor, Tensor]

# Magnitudes up to this share of a limit stay as they are.
KNEE = 0.5
# Rounding stays below the limit, too.
TOP = 1 - 1e-6
# The lift's limit in a pause.
PAUSE_LIFT_DB = 1.0
# A frame's level is the mean power over so many frames, against that of the last two seconds. From the
# lower level to the higher one, the lift's limit rises from that of a pause to the full one.
PAUSE_FRAMES = 15
PAUSE_LEVEL_DB, SPEECH_LEVEL_DB = -28.0, -18.0
# In units of the limit: beyond, squares would leave float32.
LARGEST = 1e9


class Lift(NamedTuple):
    """By what factor a bin may rise, and the share of the limit up to which it stays as it is.

    Numbers, or tensors ``(batch, frames, 1)`` where the lift falls in pauses.
    """

    factor: float | Tensor
    knee: float | Tensor


def lift_of(max_lift_db: float) -> Lift:
    """Return the limit of a lift in decibels; its knee lies above the denoised bin itself."""
    factor = 10 ** (max_lift_db / 20)
    return Lift(factor, max(KNEE, 1.001 / factor))


def falling_lift(max_lift_db: float, power: Tensor, level: Tensor) -> Lift:
    """Return the limit of a lift that falls to ``PAUSE_LIFT_DB`` in pauses.

    Args:
        max_lift_db: in speech.
        power: ``(batch, frames, 1)``, each frame's mean power over ``PAUSE_FRAMES``.
        level: likewise, the root of the mean power over the last two seconds; never 0.
    """
    level_db = 10 * torch.log10((power / level.square()).clamp(min=1e-10))
    speech = (level_db - PAUSE_LEVEL_DB) / (SPEECH_LEVEL_DB - PAUSE_LEVEL_DB)
    lift_db = PAUSE_LIFT_DB + (max_lift_db - PAUSE_LIFT_DB) * speech.clamp(0, 1)
    factor = 10 ** (lift_db / 20)
    return Lift(factor, (1.001 / factor).clamp(min=KNEE))


def removed_power(spectrum: Spectrum, noisy: Spectrum) -> Tensor:
    """Return the power of what the denoiser took from each bin, ``(batch, frames, bins)``."""
    return (noisy[0] - spectrum[0]).square() + (noisy[1] - spectrum[1]).square()


def limit_change(change: Spectrum, removed: Tensor, noisy: Spectrum) -> Spectrum:
    """Return the change within the level of what the denoiser removed.

    Frames in which the noisy signal is silent have no such limit: nobody knows what was removed,
    and a clip without a noisy side gives the same as one whose noisy side is zero.

    Args:
        change: of the denoised spectrum.
        removed: the level of :func:`removed_power` around each bin, ``(batch, frames, bins)``.
        noisy: what the denoiser was given.
    """
    below, bent = _bend(change, removed, KNEE)
    silent = (noisy[0].square() + noisy[1].square()).sum(dim=2, keepdim=True) == 0
    return _choose(below | silent, change, bent)


def limit_lift(change: Spectrum, spectrum: Spectrum, local: Tensor, lift: Lift) -> Spectrum:
    """Return the change with which no bin rises above ``local`` by more than the lift.

    Args:
        change: of the spectrum.
        spectrum: the denoised one. What is up to here as loud as ``local`` or as itself stays
            exactly as it is.
        local: the level around each bin, ``(batch, frames, bins)``; a louder bin counts itself.
        lift: of at least 1 dB.
    """
    real, imaginary = spectrum
    # Not the root of the power alone, which has no gradient at zero.
    most = lift.factor * torch.sqrt(
        torch.maximum(local.square(), real.square() + imaginary.square())
    )
    restored = (real + change[0], imaginary + change[1])
    below, (bent_real, bent_imaginary) = _bend(restored, most, lift.knee)
    return _choose(below, change, (bent_real - real, bent_imaginary - imaginary))


def _choose(condition: Tensor, these: Spectrum, others: Spectrum) -> Spectrum:
    return torch.where(condition, these[0], others[0]), torch.where(condition, these[1], others[1])


def _bend(spectrum: Spectrum, most: Tensor, knee: float | Tensor) -> tuple[Tensor, Spectrum]:
    """Return which bins are below the knee, and all bins with magnitudes below ``most``.

    A magnitude of r limits becomes knee + (1 - knee) x / sqrt(1 + x²), x = (r - knee) / (1 - knee):
    it goes on with slope 1, never reaches the limit, and always has a gradient.
    """
    real, imaginary = ((part / most).clamp(-LARGEST, LARGEST) for part in spectrum)
    squared = real.square() + imaginary.square()
    ratio = squared.clamp(min=knee**2).sqrt()
    room = TOP - knee
    over = (ratio - knee) / room
    factor = most * (knee + room * over * torch.rsqrt(1 + over.square())) / ratio
    return squared <= knee**2, (real * factor, imaginary * factor)
