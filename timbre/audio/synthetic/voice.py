"""A voice for tests and demos: what it says and how it sounds are drawn from a generator.

Source and filter (Klatt 1980, "Software for a cascade/parallel formant synthesizer"): glottal pulses
and breath pass a tract of moving formants; fricatives and bursts are shaped noise. Filters are given a
frequency response per frame and applied by overlap-add, so nothing loops over samples.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timbre.audio.levels import WORKING_LEVEL_DB, gain
from timbre.audio.waveform import SAMPLE_RATE, Wave

Floats = NDArray[np.float64]

PEAK = 0.95
CONTROL_HOP = 240
N_FFT = 2048
FREQUENCIES: Floats = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)

# First four formants in Hz of an average tract, after Peterson and Barney 1952.
VOWELS = (
    (280.0, 2250.0, 2900.0, 3600.0),
    (400.0, 2000.0, 2600.0, 3500.0),
    (550.0, 1800.0, 2500.0, 3500.0),
    (730.0, 1250.0, 2550.0, 3500.0),
    (690.0, 1050.0, 2500.0, 3400.0),
    (570.0, 850.0, 2450.0, 3350.0),
    (320.0, 900.0, 2300.0, 3300.0),
    (500.0, 1400.0, 2450.0, 3450.0),
)
# m, n, l, r
SONORANTS = (
    (260.0, 1150.0, 2300.0, 3300.0),
    (270.0, 1500.0, 2500.0, 3400.0),
    (350.0, 1100.0, 2700.0, 3400.0),
    (320.0, 1250.0, 1650.0, 3200.0),
)
NEUTRAL = VOWELS[-1]
BANDWIDTHS_HZ = (70.0, 100.0, 140.0, 200.0)


class Consonant(NamedTuple):
    """Shaped noise: where it rises and peaks, its level against a vowel, closure and length."""

    low_hz: float
    peak_hz: float
    level_db: float
    closure_seconds: float
    seconds: float


# s, sh, f, h, p, t, k
CONSONANTS = (
    Consonant(4200.0, 7500.0, -12.0, 0.0, 0.11),
    Consonant(1900.0, 3600.0, -12.0, 0.0, 0.11),
    Consonant(900.0, 9000.0, -20.0, 0.0, 0.09),
    Consonant(500.0, 1800.0, -18.0, 0.0, 0.06),
    Consonant(300.0, 1000.0, -16.0, 0.06, 0.015),
    Consonant(2500.0, 5000.0, -12.0, 0.06, 0.03),
    Consonant(1000.0, 2200.0, -13.0, 0.06, 0.035),
)


@dataclass(frozen=True)
class Speaker:
    """Who speaks: what all clips of one voice share."""

    pitch_hz: float
    tract_scale: float
    tilt_db_per_octave: float
    breath_db: float
    sibilant_scale: float
    syllables_per_second: float


class _Tracks(NamedTuple):
    """What the articulators do: one value per frame of ``CONTROL_HOP`` samples."""

    pitch_hz: Floats
    voicing: Floats
    formants_hz: Floats  # (frames, 4)
    noise: Floats
    noise_low_hz: Floats
    noise_peak_hz: Floats


def speaker(rng: np.random.Generator) -> Speaker:
    """Draw a voice; high pitch and a short tract go together, as they do in people."""
    size = rng.uniform(0.0, 1.0)
    return Speaker(
        pitch_hz=float(95.0 * 2.3**size * np.exp(rng.normal(0.0, 0.05))),
        tract_scale=float(0.92 + 0.22 * size + rng.normal(0.0, 0.02)),
        tilt_db_per_octave=float(rng.uniform(1.0, 4.0)),
        breath_db=float(rng.uniform(-39.0, -30.0)),
        sibilant_scale=float(rng.uniform(0.85, 1.2)),
        syllables_per_second=float(rng.uniform(3.6, 5.0)),
    )


def voice(
    seconds: float,
    rng: np.random.Generator,
    pitch_hz: float | None = None,
    who: Speaker | None = None,
) -> Wave:
    """Return ``(samples,)`` of full-band speech-like sound at 48 kHz, pauses being digital silence.

    Its active parts have a level of about -25 dB relative to full scale. A second costs
    about 0.04 s and, while it is made, 30 MB.

    Args:
        seconds: length.
        rng: draws the words, and the speaker where ``who`` is not given.
        pitch_hz: mean pitch, in place of the speaker's own.
        who: the speaker; clips of one speaker share pitch, tract length and timbre.
    """
    samples = round(seconds * SAMPLE_RATE)
    who = who or speaker(rng)
    tracks = _speak(samples // CONTROL_HOP + 2, who, pitch_hz or who.pitch_hz, rng)
    voiced, breath = _glottis(tracks, who, rng)
    hiss = rng.standard_normal(len(breath)) * _at_samples(tracks.noise)
    responses = np.stack([*_tract(tracks, who), _mouth(tracks)])
    return _to_level(_filter(np.stack([voiced, breath, hiss]), responses)[:samples])


def _speak(frames: int, who: Speaker, pitch_hz: float, rng: np.random.Generator) -> _Tracks:
    """Draw syllables, words and pauses until the frames are full."""
    tracks = _Tracks(
        pitch_hz=np.full(frames, pitch_hz),
        voicing=np.zeros(frames),
        formants_hz=np.tile(np.array(NEUTRAL), (frames, 1)),
        noise=np.zeros(frames),
        noise_low_hz=np.full(frames, 1000.0),
        noise_peak_hz=np.full(frames, 4000.0),
    )
    frame = _frames(rng.uniform(0.02, 0.1))
    while frame < frames:
        start = frame
        for _ in range(rng.integers(2, 5)):
            for _ in range(rng.integers(1, 4)):
                frame = _syllable(tracks, frame, who, rng)
            frame += _frames(rng.choice([0.0, 0.04, 0.1]))
        contour = np.linspace(1.12, 0.85, frame - start) * rng.uniform(0.95, 1.06)
        tracks.pitch_hz[start:frame] *= contour[: max(0, frames - start)]
        frame += _frames(rng.uniform(0.15, 0.45))
    wander = _smooth(rng.standard_normal(frames), 41)
    tracks.pitch_hz[:] *= np.exp(0.08 * wander / max(float(wander.std()), 1e-9))
    return tracks._replace(
        voicing=_smooth(tracks.voicing, 5),
        formants_hz=np.stack([_smooth(f, 11) for f in tracks.formants_hz.T], axis=1),
        noise=_smooth(tracks.noise, 3),
    )


def _syllable(tracks: _Tracks, frame: int, who: Speaker, rng: np.random.Generator) -> int:
    """Write an onset, a vowel and at times a coda from ``frame`` on; return where it ends."""
    nucleus = _frames(rng.uniform(0.5, 0.85) / who.syllables_per_second)
    target = VOWELS[rng.integers(len(VOWELS))]
    if rng.random() < 0.35:
        end = frame + _frames(0.06)
        tracks.formants_hz[frame:end] = SONORANTS[rng.integers(len(SONORANTS))]
        tracks.voicing[frame:end] = 0.35
        frame = end
    elif rng.random() < 0.85:
        tracks.formants_hz[frame : frame + _frames(0.2)] = target
        frame = _consonant(tracks, frame, who, rng)
    end = frame + nucleus
    course = np.linspace(0.0, 1.0, nucleus)[: max(0, len(tracks.noise) - frame)]
    glide = np.subtract(VOWELS[rng.integers(len(VOWELS))], target) * 0.4
    tracks.formants_hz[frame:end] = target + glide * course[:, None]
    stress = gain(rng.uniform(-6.0, 0.0))
    tracks.voicing[frame:end] = stress * (0.2 + np.sqrt(np.sin(np.pi * course**0.7)))
    tracks.pitch_hz[frame:end] *= 1.0 + rng.uniform(-0.12, 0.12) + rng.uniform(-0.1, 0.1) * course
    return _consonant(tracks, end, who, rng) if rng.random() < 0.3 else end


def _consonant(tracks: _Tracks, frame: int, who: Speaker, rng: np.random.Generator) -> int:
    sound = CONSONANTS[rng.integers(len(CONSONANTS))]
    frame += _frames(sound.closure_seconds)
    end = frame + _frames(sound.seconds * rng.uniform(0.8, 1.3))
    swell = np.sin(np.pi * (np.arange(end - frame) + 0.5) / (end - frame))
    level = gain(sound.level_db + rng.uniform(-3.0, 3.0))
    tracks.noise[frame:end] = level * swell[: max(0, len(tracks.noise) - frame)]
    tracks.noise_low_hz[frame:end] = sound.low_hz * who.sibilant_scale
    tracks.noise_peak_hz[frame:end] = sound.peak_hz * who.sibilant_scale
    if rng.random() < 0.25 and not sound.closure_seconds:
        tracks.voicing[frame:end] = 0.2
    return end


def _glottis(tracks: _Tracks, who: Speaker, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return pulses and breath, each ``(frames * CONTROL_HOP,)``: jitter, shimmer, breath that beats with them."""
    pitch = _at_samples(tracks.pitch_hz)
    phase = np.cumsum(pitch) / SAMPLE_RATE
    pulse = np.flatnonzero(np.diff(np.floor(phase)) > 0) + 1
    # Where between two samples the phase wraps, and its jitter of about 0.7 % of a period.
    early = (phase[pulse] % 1.0) * SAMPLE_RATE / pitch[pulse]
    when = pulse - early + rng.normal(0.0, 0.007, len(pulse)) * SAMPLE_RATE / pitch[pulse]
    when = np.clip(when, 0.0, len(phase) - 2.0)
    # A period's energy does not depend on its pitch.
    height = np.exp(rng.normal(0.0, 0.06, len(pulse))) * np.sqrt(SAMPLE_RATE / pitch[pulse])
    whole = when.astype(int)
    voiced = np.zeros(len(phase))
    np.add.at(voiced, whole, height * (1.0 - (when - whole)))
    np.add.at(voiced, whole + 1, height * (when - whole))
    voicing = _at_samples(tracks.voicing)
    breath = rng.standard_normal(len(phase)) * gain(who.breath_db) * (1.3 - phase % 1.0)
    return voiced * voicing, breath * voicing


def _tract(tracks: _Tracks, who: Speaker) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return the responses ``(frames, bins)`` for pulses and for breath."""
    # The tube's higher formants keep the spectrum up; they move little, so one response serves.
    tract = np.ones(len(FREQUENCIES), dtype=np.complex128)
    for number in range(5, 25):
        centre = (number - 0.5) * 1000.0 * who.tract_scale
        tract *= _resonance(np.array(centre), 250.0 + 0.08 * centre)
    for formant, bandwidth in zip(tracks.formants_hz.T, BANDWIDTHS_HZ, strict=True):
        tract = tract * _resonance(formant[:, None] * who.tract_scale, bandwidth)
    octaves = np.log2(np.maximum(FREQUENCIES, 100.0) / 100.0)
    steep = np.log2(1.0 + FREQUENCIES / 3000.0)
    glottis = 10.0 ** (-(6.0 * octaves + who.tilt_db_per_octave * steep) / 20.0)
    radiation = FREQUENCIES / (FREQUENCIES + 60.0)
    return _unit(tract * glottis * radiation), _unit(tract * radiation * 10.0 ** (-octaves * 0.15))


def _resonance(centre_hz: Floats, bandwidth_hz: float) -> NDArray[np.complex128]:
    """Return a formant of gain 1 at 0 Hz over ``FREQUENCIES``."""
    denominator = centre_hz**2 - FREQUENCIES**2 + 1j * FREQUENCIES * bandwidth_hz
    response: NDArray[np.complex128] = centre_hz**2 / denominator
    return response


def _mouth(tracks: _Tracks) -> NDArray[np.complex128]:
    """Return the responses ``(frames, bins)`` for hiss: a second-order rise, then a broad peak."""
    low = tracks.noise_low_hz[:, None]
    peak = tracks.noise_peak_hz[:, None]
    rise = -(FREQUENCIES**2) / (low**2 - FREQUENCIES**2 + 1.4j * low * FREQUENCIES)
    colour = 0.1 + peak**2 / (peak**2 - FREQUENCIES**2 + 0.8j * peak * FREQUENCIES)
    return _unit(rise * colour)


def _unit(responses: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Return ``(frames, bins)`` such that a source keeps its level, whatever the response's shape."""
    power = np.mean(responses.real**2 + responses.imag**2, axis=1, keepdims=True)
    scaled: NDArray[np.complex128] = responses / np.sqrt(power)
    return scaled


def _filter(sources: Floats, responses: NDArray[np.complex128]) -> Floats:
    """Sum sources ``(source, samples)``, each through its ``(source, frames, bins)`` responses."""
    frames = responses.shape[1]
    window = np.hanning(2 * CONTROL_HOP + 1)[:-1]
    padded = np.pad(sources, ((0, 0), (CONTROL_HOP, CONTROL_HOP)))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, 2 * CONTROL_HOP, axis=1)[
        :, ::CONTROL_HOP
    ][:, :frames]
    spectra = np.fft.rfft(pieces * window, N_FFT)
    waves = np.fft.irfft((spectra * responses).sum(axis=0), N_FFT)
    total = np.zeros((frames + N_FFT // CONTROL_HOP + 1) * CONTROL_HOP)
    # Frames that lie N_FFT apart do not overlap, so each stride of them is added at once.
    stride = -(-N_FFT // CONTROL_HOP)
    for first in range(stride):
        block = waves[first::stride]
        block = np.pad(block, ((0, 0), (0, stride * CONTROL_HOP - N_FFT))).reshape(-1)
        total[first * CONTROL_HOP :][: len(block)] += block[: len(total) - first * CONTROL_HOP]
    return total[CONTROL_HOP:]


def _to_level(sound: Floats) -> Wave:
    """Return the sound with its active parts at ``WORKING_LEVEL_DB``, or lower where it would clip."""
    whole = sound[: len(sound) // CONTROL_HOP * CONTROL_HOP].reshape(-1, CONTROL_HOP)
    power = np.mean(whole**2, axis=1)
    active = power[power > 1e-4 * power.max(initial=0.0)]
    if active.size == 0:
        return sound.astype(np.float32)
    scale = min(gain(WORKING_LEVEL_DB) / np.sqrt(active.mean()), PEAK / np.abs(sound).max())
    levelled: Wave = (sound * scale).astype(np.float32)
    return levelled


def _frames(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / CONTROL_HOP)


def _smooth(track: Floats, width: int) -> Floats:
    """Return the track ``(frames,)`` under a moving mean of ``width`` frames."""
    return np.convolve(np.pad(track, width // 2, mode="edge"), np.full(width, 1.0 / width), "valid")


def _at_samples(track: Floats) -> Floats:
    """Return ``(frames * CONTROL_HOP,)`` drawn linearly between the frames."""
    frames = np.arange(len(track)) * CONTROL_HOP
    return np.interp(np.arange(len(track) * CONTROL_HOP), frames, track)
