"""Colour of a recording: where its bandwidth ends, and how a microphone bends it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import fast_length

# An equaliser's gains hold at these frequencies, and go straight between them in log frequency.
CORNERS_HZ: tuple[float, ...] = tuple(np.geomspace(60.0, SAMPLE_RATE / 2, 8).tolist())
# A low-pass falls over this width; its ringing has died down within the padding.
TRANSITION_HZ = 400.0
PADDING = 4800


class Colour(NamedTuple):
    """A low-pass and an equaliser, one gain a corner; nothing of both changes no bit."""

    low_pass_hz: float | None = None
    gains_db: tuple[float, ...] = ()


PLAIN = Colour()


def colour_wave(wave: Wave, colour: Colour) -> Wave:
    """Return ``(samples,)`` through a colour, without delay."""
    if colour == PLAIN:
        return wave
    length = fast_length(len(wave) + PADDING)
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    spectrum = np.fft.rfft(wave.astype(np.float64), length) * _gains(hz, colour)
    result: Wave = np.fft.irfft(spectrum, length)[: len(wave)].astype(np.float32)
    return result


def _gains(hz: NDArray[np.float64], colour: Colour) -> NDArray[np.float64]:
    gains = np.ones_like(hz)
    if colour.gains_db:
        log_hz = np.log(np.maximum(hz, CORNERS_HZ[0]))
        gains *= 10 ** (np.interp(log_hz, np.log(CORNERS_HZ), colour.gains_db) / 20)
    if colour.low_pass_hz is not None:
        past = np.clip((hz - colour.low_pass_hz) / TRANSITION_HZ + 1, 0, 1)
        gains *= 0.5 + 0.5 * np.cos(np.pi * past)
    return gains
