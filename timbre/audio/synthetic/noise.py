"""Sound for tests and the demo in place of a corpus: voices, noises, rooms, and a folder of them.

All of it is a pure function of the generator passed in, at 48 kHz.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import soundfile

from timbre.audio.decode import SAMPLE_RATE, Wave, gain
from timbre.audio.synthetic.voice import Floats, Speaker, speaker, voice

__all__ = ["NoiseKind", "Speaker", "noise", "room_response", "speaker", "voice", "write_corpus"]

NoiseKind = Literal["white", "pink", "hum", "wind", "babble", "clicks"]

NOISE_LEVEL_DB = -30.0
BABBLE_VOICES = 4
CLICKS_PER_SECOND = 25.0
EARLY_REFLECTIONS = 8
DIRECT_DELAY = 96
# Share of the requested RT60 that remains in the octaves from 4 kHz up: air and soft walls.
HIGH_BANDS_HZ = (4000.0, 8000.0, 16000.0, 24001.0)
HIGH_DECAYS = (0.8, 0.6, 0.4)
CORPUS_RT60_SECONDS = (0.2, 0.35, 0.5, 0.8)


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


def room_response(
    rt60_seconds: float, rng: np.random.Generator, direct_delay: int = DIRECT_DELAY
) -> Wave:
    """Return the impulse response ``(samples,)`` of a room, its direct path being 1 at ``direct_delay``.

    The diffuse tail falls by 60 dB in ``rt60_seconds`` up to 4 kHz and faster above, after a gap that
    early reflections fill (Moorer 1979, "About this reverberation business").
    """
    tail = round(rt60_seconds * SAMPLE_RATE)
    seconds = np.arange(tail) / SAMPLE_RATE
    colour = _shaped(rng.standard_normal(tail), lambda hz: 1.0 / (1.0 + hz / 1500.0))
    edges = (0.0, *HIGH_BANDS_HZ)
    diffuse = np.zeros(tail)
    for low, high, share in zip(edges, HIGH_BANDS_HZ, (1.0, *HIGH_DECAYS), strict=False):
        band = _shaped(colour, _within(low, high))
        diffuse += band * 10.0 ** (-3.0 * seconds / (rt60_seconds * share))
    gap = round(rng.uniform(0.004, 0.012) * SAMPLE_RATE)
    diffuse[:gap] *= np.linspace(0.0, 1.0, gap)
    # Reverberant energy against the direct path's, from -8 dB in a dry room to about 0 in a hall.
    energy = 10.0 ** (rng.uniform(-0.4, 0.0) + 0.4 * np.log10(min(rt60_seconds, 1.0)))
    diffuse *= np.sqrt(energy / np.sum(diffuse**2))
    response = np.zeros(direct_delay + tail)
    response[direct_delay:] = diffuse
    early = rng.integers(round(0.0015 * SAMPLE_RATE), round(0.03 * SAMPLE_RATE), EARLY_REFLECTIONS)
    early = early[early < tail]
    signs = rng.choice([1.0, 1.0, -1.0], len(early))
    response[direct_delay + early] += signs * 0.4 * np.exp(-early / (0.012 * SAMPLE_RATE))
    response[direct_delay] = 1.0
    return response.astype(np.float32)


def write_corpus(
    folder: Path, seed: int, speakers: int, clips_per_speaker: int, seconds: float
) -> None:
    """Write ``speech/ noise/ rir/`` as FLAC and ``manifest.jsonl``, one row a file, into ``folder``.

    Each file has its own random stream, so adding speakers or clips changes none of the others.
    """
    rows = []
    for name, wave, facts in _corpus(seed, speakers, clips_per_speaker, seconds):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A peak of an impulse response is 1.0, which PCM_16 does not reach.
        wave = wave * np.float32(min(1.0, 0.999 / np.abs(wave).max()))
        soundfile.write(path, wave, SAMPLE_RATE, subtype="PCM_16")
        row = {
            "file": name,
            "source": "timbre.signals",
            "licence": "CC0-1.0",
            "duration_s": round(len(wave) / SAMPLE_RATE, 3),
            "original_rate": SAMPLE_RATE,
            "bandwidth_hz": SAMPLE_RATE // 2,
        }
        rows.append(json.dumps(row | facts))
    unfinished = folder / "manifest.jsonl.tmp"
    unfinished.write_text("\n".join(rows) + "\n", encoding="utf-8")
    unfinished.replace(folder / "manifest.jsonl")


def _corpus(
    seed: int, speakers: int, clips_per_speaker: int, seconds: float
) -> Iterator[tuple[str, Wave, dict[str, Any]]]:
    """Yield the name, the sound and the particular manifest entries of each file."""
    for number in range(speakers):
        who = speaker(np.random.default_rng([seed, 0, number]))
        label = f"synthetic_{number:02d}"
        for clip in range(clips_per_speaker):
            wave = voice(seconds, np.random.default_rng([seed, 1, number, clip]), who=who)
            yield f"speech/{label}_{clip:03d}.flac", wave, {"speaker": label}
    for number, kind in enumerate(get_args(NoiseKind)):
        wave = noise(kind, 2 * seconds, np.random.default_rng([seed, 2, number]))
        yield f"noise/{kind}.flac", wave, {"speaker": None}
    for number, rt60_seconds in enumerate(CORPUS_RT60_SECONDS):
        wave = room_response(rt60_seconds, np.random.default_rng([seed, 3, number]))
        yield f"rir/room_{number}.flac", wave, {"speaker": None, "rt60_s": rt60_seconds}


def _white(samples: int, rng: np.random.Generator) -> Floats:
    return rng.standard_normal(samples)


def _pink(samples: int, rng: np.random.Generator) -> Floats:
    return _shaped(rng.standard_normal(samples), lambda hz: 1.0 / np.sqrt(np.maximum(hz, 40.0)))


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
    rumble = _shaped(rng.standard_normal(samples), lambda hz: 1.0 / (1.0 + (hz / 150.0) ** 1.5))
    swell = _shaped(rng.standard_normal(samples), _within(0.0, 1.5))
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


def _within(low_hz: float, high_hz: float) -> Callable[[Floats], Floats]:
    return lambda hz: np.where((hz >= low_hz) & (hz < high_hz), 1.0, 0.0)


def _shaped(wave: Floats, response: Callable[[Floats], Floats]) -> Floats:
    """Return the wave ``(samples,)`` with ``response(hz)`` on its spectrum."""
    hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    shaped: Floats = np.fft.irfft(np.fft.rfft(wave) * response(hz), len(wave))
    return shaped
