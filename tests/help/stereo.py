"""Voices in two channels, and a measure of where they are."""

from typing import NamedTuple

import numpy as np

from timbre.audio import HOP, Wave
from timbre.audio.spectra import sine_window

# Bins below 4 kHz, 50 Hz apart.
BELOW_4_KHZ = 80
# Bins this far under the loudest hold no speech; each channel must reach the second.
SPEECH_DB, FAINTER_DB = -35.0, -50.0


PLACES = ("centre", "left by 12 dB", "right by 6 dB", "left by 0.5 ms")


class Shift(NamedTuple):
    """How far a voice moved: means over speech bins of the change between the channels."""

    level_db: float
    phase: float


def pan(voice: Wave, place: str) -> Wave:
    """Return ``(2, samples)`` with a voice ``(samples,)`` at one of ``PLACES``."""
    sides = (
        (voice, voice),
        (voice, voice / 4),
        (voice / 2, voice),
        (voice, 0.8 * delay(voice, 24.3)),
    )
    return np.stack(sides[PLACES.index(place)]).astype(np.float32)


def delay(wave: Wave, samples: float) -> Wave:
    """Return ``(samples,)`` later by a number of samples, parts of one too."""
    spectrum = np.fft.rfft(wave, len(wave) + 4800)
    turns = np.arange(len(spectrum)) * (samples / (len(wave) + 4800))
    result: Wave = np.fft.irfft(spectrum * np.exp(-2j * np.pi * turns))[: len(wave)]
    return result


def shift(result: Wave, voice: Wave) -> Shift:
    """Return how far a voice ``(2, samples)`` lies in a result from where it was."""
    (left, right), (left_before, right_before) = (_spectra(wave) for wave in (result, voice))
    powers = np.square(np.abs([left_before, right_before]))
    loudest = powers.sum(axis=0).max()
    speech = powers.sum(axis=0) > loudest * 10 ** (SPEECH_DB / 10)
    speech &= powers.min(axis=0) > loudest * 10 ** (FAINTER_DB / 10)
    before = left_before * right_before.conj()
    ratio = (np.abs(left) + 1e-9) / (np.abs(right) + 1e-9)
    ratio_before = (np.abs(left_before) + 1e-9) / (np.abs(right_before) + 1e-9)
    levels = 20 * np.abs(np.log10(ratio / ratio_before))[speech]
    phases = np.abs(np.angle(left * right.conj() * before.conj()))[:, :BELOW_4_KHZ]
    return Shift(float(levels.mean()), float(phases[speech[:, :BELOW_4_KHZ]].mean()))


def _spectra(wave: Wave) -> Wave:
    frames = np.lib.stride_tricks.sliding_window_view(wave, 2 * HOP, axis=1)[:, ::HOP]
    spectra: Wave = np.fft.rfft(frames * sine_window(HOP).numpy())
    return spectra
