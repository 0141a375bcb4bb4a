"""Noises that try a restorer: of every colour, up to 24 kHz, steady, pulsed and changing.

Recordings rarely hold them: few go above 20 kHz, and none is a tone. Each is a pure function of its
kind and the generator passed in, at 48 kHz, of RMS 1.
"""

from collections.abc import Callable

import numpy as np

from timbre.audio.synthetic.voice import Floats
from timbre.audio.waveform import SAMPLE_RATE, Wave

TOP_HZ = SAMPLE_RATE / 2
LOWEST_HZ = 20.0
HUM_HZ, HUM_HARMONICS = (50.0, 60.0), 40
TONES_HZ = ((300.0, 900.0), (1000.0, 3000.0), (4000.0, 9000.0), (12_000.0, 22_000.0))
SWEEP_HZ = (50.0, 23_000.0)
CLICKS_PER_SECOND, CRACKLES_PER_SECOND = 6.0, 150.0
MODULATION_HZ, MODULATION_DB = (0.7, 8.0), 30.0
BANDS_HZ = (4000, 8000, 16_000, 20_000)
# How much louder the second half of an abrupt change is.
STEP_DB = 20.0


def probe_noise(kind: str, samples: int, rng: np.random.Generator) -> Wave:
    """Return ``(samples,)`` of a kind in ``PROBE_KINDS``, of RMS 1."""
    wave = PROBE_KINDS[kind](samples, rng)
    unit: Wave = (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)
    return unit


def _colour(decibel_per_octave: float) -> Callable[[int, np.random.Generator], Floats]:
    """Return what makes noise whose power rises by so much an octave, flat below 20 Hz."""
    slope = decibel_per_octave / (20 * np.log10(2))
    return lambda samples, rng: _shape(samples, rng, lambda hz: np.maximum(hz, LOWEST_HZ) ** slope)


def _band(low_hz: float, high_hz: float) -> Callable[[int, np.random.Generator], Floats]:
    return lambda samples, rng: _shape(
        samples, rng, lambda hz: ((hz >= low_hz) & (hz <= high_hz)).astype(float)
    )


def _hiss(samples: int, rng: np.random.Generator) -> Floats:
    """Return what amplifiers and tapes add: rising up to 6 kHz, flat above."""
    return _shape(samples, rng, lambda hz: np.minimum(hz / 6000.0, 1.0))


def _hum(samples: int, rng: np.random.Generator) -> Floats:
    """Return mains hum, its harmonics falling slowly, with a little hiss under it."""
    harmonics = np.arange(1, HUM_HARMONICS + 1)
    heights = rng.uniform(0.3, 1.0, len(harmonics)) / harmonics**0.7
    frequencies = rng.choice(HUM_HZ) * harmonics
    hum = _tones_of(frequencies, heights, samples, rng)
    hum += 0.01 * np.sqrt(np.mean(hum**2)) * rng.standard_normal(samples)
    return hum


def _tones(samples: int, rng: np.random.Generator) -> Floats:
    """Return four steady tones, one of them above 12 kHz."""
    frequencies = np.array([rng.uniform(*span) for span in TONES_HZ])
    return _tones_of(frequencies, np.ones(len(frequencies)), samples, rng)


def _sweep(samples: int, rng: np.random.Generator) -> Floats:
    """Return a tone that rises through all octaves, or falls."""
    place = np.linspace(0.0, 1.0, samples)[:: int(rng.choice([1, -1]))]
    frequency = SWEEP_HZ[0] * (SWEEP_HZ[1] / SWEEP_HZ[0]) ** place
    sweep: Floats = np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE)
    return sweep


def _clicks(samples: int, rng: np.random.Generator) -> Floats:
    """Return single samples of one height: as much at 24 kHz as at 100 Hz."""
    return _impulses(samples, CLICKS_PER_SECOND, rng, spread=0.0)


def _crackle(samples: int, rng: np.random.Generator) -> Floats:
    """Return many impulses of very different heights, over faint noise, as of an old record."""
    crackle = _impulses(samples, CRACKLES_PER_SECOND, rng, spread=1.0)
    return crackle + 0.02 * rng.standard_normal(samples)


def _modulate(samples: int, rng: np.random.Generator) -> Floats:
    """Return white noise that swells and fades by 30 dB, up to eight times a second."""
    turns = np.arange(samples) / SAMPLE_RATE * rng.uniform(*MODULATION_HZ) + rng.uniform()
    decibel = MODULATION_DB / 2 * (np.cos(2 * np.pi * turns) - 1)
    modulated: Floats = rng.standard_normal(samples) * 10 ** (decibel / 20)
    return modulated


def _abrupt(samples: int, rng: np.random.Generator) -> Floats:
    """Return pink noise that turns into louder white noise in the middle."""
    half = samples // 2
    before, after = (_colour(slope)(samples, rng) for slope in (-3.0, 0.0))
    before, after = (wave / np.sqrt(np.mean(wave**2)) for wave in (before, after))
    return np.concatenate([before[:half], after[half:] * 10 ** (STEP_DB / 20)])


PROBE_KINDS: dict[str, Callable[[int, np.random.Generator], Floats]] = {
    "white": _colour(0.0),
    "pink": _colour(-3.0),
    "brown": _colour(-6.0),
    "blue": _colour(3.0),
    "hiss": _hiss,
    "hum": _hum,
    "tones": _tones,
    "sweep": _sweep,
    "clicks": _clicks,
    "crackle": _crackle,
    "modulated": _modulate,
    "abrupt": _abrupt,
    **{f"up to {high // 1000} kHz": _band(LOWEST_HZ, high) for high in BANDS_HZ},
    # The noise that ends at 24 kHz is the white one; this has nothing below what most noises reach.
    "20 to 24 kHz": _band(20_000.0, TOP_HZ),
}


def _shape(samples: int, rng: np.random.Generator, magnitude: Callable[[Floats], Floats]) -> Floats:
    """Return normal noise ``(samples,)`` with ``magnitude(hz)`` on its spectrum, without an offset."""
    hz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples)) * magnitude(hz)
    spectrum[0] = 0.0
    shaped: Floats = np.fft.irfft(spectrum, samples)
    return shaped


def _tones_of(
    frequencies: Floats, heights: Floats, samples: int, rng: np.random.Generator
) -> Floats:
    seconds = np.arange(samples) / SAMPLE_RATE
    phases = rng.uniform(0.0, 2 * np.pi, len(frequencies))
    wave = np.zeros(samples)
    for frequency, height, phase in zip(frequencies, heights, phases, strict=True):
        wave += height * np.sin(2 * np.pi * frequency * seconds + phase)
    return wave


def _impulses(samples: int, per_second: float, rng: np.random.Generator, spread: float) -> Floats:
    """Return impulses at drawn places, at least one; ``spread`` is that of their log heights."""
    count = max(1, rng.poisson(per_second * samples / SAMPLE_RATE))
    wave = np.zeros(samples)
    heights = np.exp(spread * rng.standard_normal(count)) * rng.choice([-1.0, 1.0], count)
    np.add.at(wave, rng.integers(0, samples, count), heights)
    return wave
