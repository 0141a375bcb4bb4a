"""The probes: noises alone, and speech with noise, gaps, other levels and no noise at all."""

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.audio.synthetic.probe_noise import PROBE_KINDS, probe_noise
from timbre.audio.synthetic.voice import voice
from timbre.errors import ConfigError
from timbre.evaluate.cases import FULL_HZ, Labels, LoadedPair
from timbre.shards import spread

ALONE, SPEECH, CLEAN, LEVEL = "noise alone", "speech in noise", "clean speech", "level"
START, GAP, SILENCE = "speech from the first sample", "long gap", "silence"
ALONE_DB = (-70, -60, -50, -40, -30, -20)
SNR_DB = (0, 10, 20, 30, 40, 60)
# Of the highest sample.
PEAK_DB = (-60, -50, -40, -30, -20, -10, -3, 0)
GAP_SECONDS = (3, 5, 10, 15)
# Noise of the probes that are about something else.
OTHER_NOISE, OTHER_SNR_DB = "pink", 20
START_NOISES = ("white", "pink")
SPEECH_DB = -25.0
SPEECH_SECONDS, ALONE_SECONDS = 3.0, 3.0
# Silence around the speech, so that every probe has pauses.
BEFORE_SECONDS, AFTER_SECONDS = 0.5, 1.0
# Voices of each row; its figures are their mean.
VOICES = 2
SEED = 5


class Probe(NamedTuple):
    """One sound to put in.

    Attributes:
        part: of the table.
        noise: its kind; "" is none.
        value: its level in dBFS (``ALONE``), the signal-to-noise ratio in dB (``SPEECH``), the
            highest sample in dBFS (``LEVEL``), seconds (``GAP``).
        voice: number of a made-up voice.
        recording: URL of speech in its place.
    """

    part: str
    noise: str = ""
    value: float = 0.0
    voice: int = 0
    recording: str = ""

    @property
    def row(self) -> str:
        """What is measured, whoever speaks."""
        texts = {
            ALONE: f"{self.noise}, alone, {self.value:.0f} dBFS",
            SPEECH: f"{self.noise}, speech {self.value:.0f} dB above",
            LEVEL: f"speech with peaks at {self.value:.0f} dBFS",
            START: f"speech from the first sample, {self.noise}",
            GAP: f"{self.value:.0f} s without speech",
        }
        return texts.get(self.part, self.part)

    @property
    def key(self) -> str:
        """Name of this probe alone."""
        return f"{self.row}, voice {self.voice}"


def list_probes(speech: str | None) -> list[Probe]:
    """Return all probes, those of a row together.

    Args:
        speech: a folder of recordings to speak in place of made-up voices.

    Raises:
        ConfigError: the folder holds no audio.
    """
    voices = [(number, "") for number in range(VOICES)] if speech is None else _recordings(speech)
    return [
        probe._replace(voice=number, recording=url)
        for probe in _rows()
        for number, url in (voices if probe.part not in (ALONE, SILENCE) else [(0, "")])
    ]


def load(probe: Probe) -> LoadedPair:
    """Return the probe's noisy side, and its clean side: all zeros where nobody speaks.

    Raises:
        AudioError, OSError: a recording cannot be read.
    """
    noisy, clean = _make(probe)
    labels = Labels(None, None, probe.noise or None, None, None)
    return LoadedPair(None, torch.from_numpy(clean), torch.from_numpy(noisy), FULL_HZ, labels)


def _rows() -> Iterator[Probe]:
    """Yield one probe of each row."""
    for noise in PROBE_KINDS:
        yield from (Probe(ALONE, noise, level) for level in ALONE_DB)
    for noise in PROBE_KINDS:
        yield from (Probe(SPEECH, noise, snr) for snr in SNR_DB)
    yield Probe(CLEAN)
    yield from (Probe(LEVEL, OTHER_NOISE, peak) for peak in PEAK_DB)
    yield from (Probe(START, noise, OTHER_SNR_DB) for noise in START_NOISES)
    yield from (Probe(GAP, OTHER_NOISE, seconds) for seconds in GAP_SECONDS)
    yield Probe(SILENCE)


def _recordings(folder: str) -> list[tuple[int, str]]:
    files = sorted(audio.find_below(folder).items())
    if not files:
        raise ConfigError(f"--speech {folder}: expected a folder that holds audio")
    return [(n, files[place][1]) for n, place in enumerate(spread(len(files), 2 * VOICES))]


def _make(probe: Probe) -> tuple[Wave, Wave]:
    """Return noisy and clean, ``(samples,)`` each."""
    if probe.part in (ALONE, SILENCE):
        samples = round(ALONE_SECONDS * SAMPLE_RATE)
        clean = np.zeros(samples, np.float32)
        return (clean + _noise(probe, samples, probe.value) if probe.noise else clean), clean
    clean = _speech(probe)
    if probe.part == CLEAN:
        return clean, clean
    snr_db = probe.value if probe.part == SPEECH else OTHER_SNR_DB
    noisy = clean + _noise(probe, len(clean), SPEECH_DB - snr_db)
    if probe.part == LEVEL:
        factor = np.float32(audio.gain(probe.value) / np.abs(noisy).max())
        return noisy * factor, clean * factor
    return noisy, clean


def _noise(probe: Probe, samples: int, level_db: float) -> Wave:
    # Every kind is the same noise in all its rows, so that they differ in level alone.
    rng = np.random.default_rng([SEED, zlib.crc32(probe.noise.encode())])
    return np.float32(audio.gain(level_db)) * probe_noise(probe.noise, samples, rng)


def _speech(probe: Probe) -> Wave:
    """Return speech at ``SPEECH_DB`` with what is silent around it and in it."""
    speech = _speak(probe)
    before, after = (
        np.zeros(round(seconds * SAMPLE_RATE), np.float32)
        for seconds in (BEFORE_SECONDS, AFTER_SECONDS)
    )
    if probe.part == START:
        return np.concatenate([speech[_first_sound(speech) :], after])
    if probe.part == GAP:
        gap = np.zeros(round(probe.value * SAMPLE_RATE), np.float32)
        half = len(speech) // 2
        return np.concatenate([before, speech[:half], gap, speech[half:], after])
    return np.concatenate([before, speech, after])


def _speak(probe: Probe) -> Wave:
    if probe.recording:
        wave = _loudest(audio.read_mono(probe.recording), round(SPEECH_SECONDS * SAMPLE_RATE))
    else:
        wave = voice(SPEECH_SECONDS, np.random.default_rng([SEED, probe.voice]))
    level_db = audio.active_level_db(wave)
    if not math.isfinite(level_db) or level_db <= audio.SILENCE_DB:
        raise ConfigError(f"--speech: {probe.recording} is silent; expected recordings of speech")
    return wave * np.float32(audio.gain(SPEECH_DB - level_db))


def _first_sound(wave: Wave) -> int:
    """Return where the wave first reaches a hundredth of its highest sample."""
    return int(np.argmax(np.abs(wave) > 0.01 * np.abs(wave).max()))


def _loudest(wave: Wave, samples: int) -> Wave:
    """Return the stretch with the most energy, of ``samples`` or of what there is."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    ends: Sequence[int] = range(min(samples, len(wave)), len(wave) + 1, SAMPLE_RATE // 10)
    end = max(ends, key=lambda end: energy[end] - energy[max(end - samples, 0)])
    return wave[max(end - samples, 0) : end]
