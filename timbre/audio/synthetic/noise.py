"""Made-up noises at 48 kHz: each is a pure function of the generator passed in."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from timbre.audio.levels import gain
from timbre.audio.synthetic.voice import Floats, voice
from timbre.audio.waveform import SAMPLE_RATE, Wave

NoiseKind = Literal["white", "pink", "hum", "wind", "babble", "clicks"]

NOISE_LEVEL_DB = -30.0
BABBLE_VOICES = 4
CLICKS_PER_SECOND = 25.0


def noise(kind: NoiseKind, seconds: float, rng: np.random.Generator) -> Wave:
    """Return ``(samples,)`` of noise at ``NOISE_LEVEL_DB``, whatever its kind."""
    samples = round(seconds * SAMPLE_RATE)
    make = {
        "white": _white,
        "pink": _pink,
        "hum": _hum,
        "wind": _wind,
        "babble": _babble,
        "clicks": _clicks,
    }
    wave = make[kind](samples, rng)
    scale = gain(NOISE_LEVEL_DB) / np.sqrt(np.mean(wave**2))
    levelled: Wave = (wave * scale).astype(np.float32)
    return levelled


def within(low_hz: float, high_hz: float) -> Callable[[Floats], Floats]:
    """Return a response that is 1 from ``low_hz`` up to ``high_hz`` and 0 elsewhere."""
    return lambda hz: np.where((hz >= low_hz) & (hz < high_hz), 1.0, 0.0)


def shape_noise(wave: Floats, response: Callable[[Floats], Floats]) -> Floats:
    """Return the wave ``(samples,)`` with ``response(hz)`` on its spectrum."""
    hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    result: Floats = np.fft.irfft(np.fft.rfft(wave) * response(hz), len(wave))
    return result


def _white(samples: int, rng: np.random.Generator) -> Floats:
    return rng.standard_normal(samples)


def _pink(samples: int, rng: np.random.Generator) -> Floats:
    return shape_noise(rng.standard_normal(samples), lambda hz: 1.0 / np.sqrt(np.maximum(hz, 40.0)))


def _hum(samples: int, rng: np.random.Generator) -> Floats:
    """Return mains hum: harmonics of 50 or 60 Hz, and a little hiss."""
    harmonics = np.arange(1, 25)
    seconds = np.arange(samples) / SAMPLE_RATE
    phase = rng.uniform(0.0, 2.0 * np.pi, len(harmonics))
    heights = rng.uniform(0.3, 1.0, len(harmonics)) / harmonics
    turns = 2.0 * np.pi * rng.choice([50.0, 60.0]) * seconds
    tones = sum(
        h * np.sin(n * turns + p) for n, h, p in zip(harmonics, heights, phase, strict=True)
    )
    hum: Floats = np.asarray(tones) + 0.01 * rng.standard_normal(samples)
    return hum


def _wind(samples: int, rng: np.random.Generator) -> Floats:
    """Return rumble that swells and drops within seconds."""
    rumble = shape_noise(rng.standard_normal(samples), lambda hz: 1.0 / (1.0 + (hz / 150.0) ** 1.5))
    swell = shape_noise(rng.standard_normal(samples), within(0.0, 1.5))
    swell /= max(float(np.abs(swell).max()), 1e-12)
    gusts: Floats = rumble * np.exp(1.5 * swell)
    return gusts


def _babble(samples: int, rng: np.random.Generator) -> Floats:
    """Return several voices talking at once."""
    seconds = samples / SAMPLE_RATE
    talk: Floats = np.sum([voice(seconds, rng) for _ in range(BABBLE_VOICES)], axis=0, dtype=float)
    return talk


def _clicks(samples: int, rng: np.random.Generator) -> Floats:
    """Return sparse knocks that ring for a few milliseconds over faint hiss."""
    knocks = np.where(rng.random(samples) < CLICKS_PER_SECOND / SAMPLE_RATE, 1.0, 0.0)
    knocks *= rng.uniform(0.3, 1.0, samples) * rng.choice([-1.0, 1.0], samples)
    seconds = np.arange(round(0.02 * SAMPLE_RATE)) / SAMPLE_RATE
    ring = np.sin(2.0 * np.pi * rng.uniform(1200.0, 4000.0) * seconds) * np.exp(-seconds / 0.003)
    clicks: Floats = np.convolve(knocks, ring)[:samples]
    return clicks + 0.002 * rng.standard_normal(samples)
