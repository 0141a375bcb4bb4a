"""Noises that no recording holds: made from a seed, up to 24 kHz.

Recordings are mostly cut at 15 to 20 kHz, so a network that hears only those never learns what a
noise does above. A noise is a pure function of its kind, its seed and its length.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shard_tools.mix.colour import CORNERS_HZ
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.spectra import fast_length

Floats = NDArray[np.float64]
Power = Callable[[Floats], Floats]

KINDS = (
    "white",
    "pink",
    "brown",
    "blue",
    "tilt",
    "band",
    "equaliser",
    "modulated",
    "hum",
    "clicks",
    "tones",
)
HISS = "hiss"
# Power per Hz goes with frequency to this power.
SLOPES = {"pink": -1.0, "brown": -2.0, "blue": 1.0}
LOWEST_HZ = 30.0
HIGHEST_HZ = SAMPLE_RATE / 2
MAINS_HZ = (50.0, 60.0)
EQUALISER_DB = 12.0
# A noise of any broad kind is modulated in this share, too.
MODULATED_SHARE = 0.2
CLICK_SAMPLES = 4800


class MadeNoise(NamedTuple):
    """One made-up noise, and its gain against the other noises of a pair."""

    kind: str
    seed: int
    gain_db: float = 0.0

    @property
    def name(self) -> str:
        """What it is called in a pair's meta."""
        return f"made-{self.kind}-{self.seed}"


def make_noise(noise: MadeNoise, samples: int) -> Wave:
    """Return ``(samples,)`` of a noise at a level of 0 dBFS, its gain left out."""
    rng = np.random.default_rng(noise.seed)
    special = {"hum": _hum, "tones": _tones, "clicks": _clicks, HISS: _hiss}
    wave = (
        special[noise.kind](samples, rng)
        if noise.kind in special
        else _broad(noise.kind, samples, rng)
    )
    return _unit(wave)


def _broad(kind: str, samples: int, rng: np.random.Generator) -> Floats:
    """Return noise of a shape over frequency: sloped, band-limited or equalised, perhaps modulated."""
    slope = SLOPES.get(kind, 0.0)
    if kind == "tilt":
        slope = rng.uniform(-2.0, 1.0)
    elif kind in ("modulated", "equaliser"):
        slope = rng.uniform(-1.5, 0.4)
    low, high = np.sort(_log_uniform(rng, 60.0, HIGHEST_HZ, 2))
    low = 0.0 if rng.random() < 0.5 else low
    gains_db = rng.uniform(-EQUALISER_DB, EQUALISER_DB, len(CORNERS_HZ))

    def power(hz: Floats) -> Floats:
        hearable = np.maximum(hz, LOWEST_HZ)
        density: Floats = hearable**slope
        if kind == "equaliser":
            density *= 10 ** (np.interp(np.log(hearable), np.log(CORNERS_HZ), gains_db) / 10)
        if kind == "band":
            density = density * ((hz >= low) & (hz <= max(high, 1.5 * low))) + 1e-9
        return density

    wave = _shape(samples, power, rng)
    if kind == "modulated" or rng.random() < MODULATED_SHARE:
        changes_hz = float(_log_uniform(rng, 0.3, 20.0, 1)[0])
        wave *= _wander(samples, changes_hz, rng.uniform(6.0, 40.0), rng)
    return wave


def _hiss(samples: int, rng: np.random.Generator) -> Floats:
    slope = rng.uniform(-1.0, 1.0)
    return _shape(samples, lambda hz: (hz + 300.0) ** slope, rng)


def _hum(samples: int, rng: np.random.Generator) -> Floats:
    """Return a tone of the mains or a machine with its partials, over faint white noise."""
    base_hz = float(rng.choice([*MAINS_HZ, rng.uniform(40.0, 400.0)]))
    fall = rng.uniform(0.3, 1.5)
    partials = np.arange(1, int(rng.integers(4, 40)))
    sizes = rng.uniform(0.05, 1.0, len(partials)) / partials**fall
    turns = rng.uniform(0, 2 * np.pi, len(partials))
    seconds = np.arange(samples) / SAMPLE_RATE
    wave = np.zeros(samples)
    for size, partial, turn in zip(sizes, partials, turns, strict=True):
        wave += size * np.sin(2 * np.pi * base_hz * partial * seconds + turn)
    white = rng.standard_normal(samples)
    return _unit(wave) + white * 10 ** (-rng.uniform(10.0, 40.0) / 20)


def _tones(samples: int, rng: np.random.Generator) -> Floats:
    """Return one to four tones that stand or sweep, each growing and fading by itself."""
    wave = np.zeros(samples)
    for _ in range(int(rng.integers(1, 5))):
        first, last = _log_uniform(rng, 100.0, 20000.0, 2)
        way = np.linspace(0.0, 1.0, samples) * (rng.random() < 0.5)
        turns = np.cumsum(first * (last / first) ** way) / SAMPLE_RATE
        wave += np.sin(2 * np.pi * turns) * _wander(samples, rng.uniform(0.2, 6.0), 30.0, rng)
    return wave


def _clicks(samples: int, rng: np.random.Generator) -> Floats:
    """Return clicks or crackle: up to 400 a second, each with one short tail of noise."""
    per_second = float(_log_uniform(rng, 1.0, 400.0, 1)[0])
    count = max(int(samples / SAMPLE_RATE * per_second), 1)
    sizes = rng.standard_normal(count) * np.exp(rng.standard_normal(count))
    clicks = np.bincount(rng.integers(0, samples, count), sizes, samples)
    decay = float(_log_uniform(rng, 20.0, 2000.0, 1)[0])
    tail = rng.standard_normal(CLICK_SAMPLES) * np.exp(-np.arange(CLICK_SAMPLES) / decay)
    length = fast_length(samples + CLICK_SAMPLES)
    spectrum = np.fft.rfft(clicks, length) * np.fft.rfft(tail, length)
    return np.asarray(np.fft.irfft(spectrum, length)[:samples])


def _shape(samples: int, power: Power, rng: np.random.Generator) -> Floats:
    """Return Gaussian noise with ``power(hz)`` per Hz."""
    length = fast_length(samples)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum *= np.sqrt(power(np.fft.rfftfreq(length, 1 / SAMPLE_RATE)))
    return np.asarray(np.fft.irfft(spectrum, length)[:samples])


def _wander(samples: int, changes_hz: float, depth_db: float, rng: np.random.Generator) -> Floats:
    """Return gains that wander between 0 and ``-depth_db``, with a turn ``changes_hz`` times a second."""
    knots = max(int(samples * changes_hz / SAMPLE_RATE) + 3, 4)
    levels_db = rng.uniform(-depth_db, 0.0, knots)
    way = np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), levels_db)
    return np.asarray(10 ** (way / 20))


def _log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> Floats:
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), count)))


def _unit(wave: Floats) -> Wave:
    """Return a wave at 0 dBFS; what is all but silent stays so."""
    level = max(float(np.sqrt(np.mean(np.square(wave)))), 1e-5)
    return (wave / level).astype(np.float32)
