"""Probes as a generator gets them: noise, and what a denoiser leaves of it, without running one.

A denoiser that works leaves noise alone far below its input, of about the same colour. A generator
that also gets the noisy signal must not let it through there.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from timbre.audio.levels import WORKING_LEVEL_DB, active_level_db, gain
from timbre.audio.synthetic.probe_noise import probe_noise
from timbre.audio.synthetic.voice import voice
from timbre.audio.waveform import SAMPLE_RATE, Wave

SEED = 11
SECONDS = 2.0
# How far below the noise its residue is: DeepFilterNet3 leaves white noise 43 dB down.
RESIDUE_DB = -45.0
ALONE = ("white", "pink", "blue", "20 to 24 kHz", "hum")
# Under speech: the noise is so far below it, as hiss of a recording is.
UNDER_SPEECH = ("hiss", "blue")
SPEECH_SNR_DB = 30.0


class DenoisedProbe(NamedTuple):
    """Three sides of a probe, ``(samples,)`` each; ``clean`` is all zeros where nobody speaks."""

    name: str
    degraded: Wave
    noisy: Wave
    clean: Wave


@cache
def denoised_probes() -> tuple[DenoisedProbe, ...]:
    """Return noises alone, and hiss under speech, each at the working level."""
    samples = round(SECONDS * SAMPLE_RATE)
    silence = np.zeros(samples, np.float32)
    speech = voice(SECONDS, np.random.default_rng([SEED, 0]))
    speech *= np.float32(gain(WORKING_LEVEL_DB - active_level_db(speech)))
    # A pause of half a second at the end, whatever is said.
    speech[-samples // 4 :] = 0.0
    alone = [_probe(kind, kind, silence, WORKING_LEVEL_DB) for kind in ALONE]
    level_db = WORKING_LEVEL_DB - SPEECH_SNR_DB
    return (
        *alone,
        *(_probe(f"speech over {kind}", kind, speech, level_db) for kind in UNDER_SPEECH),
    )


def _probe(name: str, kind: str, clean: Wave, level_db: float) -> DenoisedProbe:
    rng = np.random.default_rng([SEED, 1])
    noise = np.float32(gain(level_db)) * probe_noise(kind, len(clean), rng)
    residue = np.float32(gain(RESIDUE_DB)) * noise
    return DenoisedProbe(name, clean + residue, clean + noise, clean)
