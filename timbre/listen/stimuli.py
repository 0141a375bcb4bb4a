"""What is played: the clips of all systems and the low anchor, all equally loud."""

import numpy as np

from timbre.audio import SAMPLE_RATE, Wave, gain
from timbre.errors import AudioError
from timbre.listen.clips import Clip
from timbre.packages import require

LOUDNESS_LUFS = -23.0
# What loudness is measured over (ITU-R BS.1770).
SHORTEST_SECONDS = 0.4
HIGHEST_PEAK = 0.99
TINY = 1e-12
FADE_SECONDS = 0.01
ANCHOR = "low anchor"
# ITU-R BS.1534: passes up to 3.5 kHz within 0.1 dB, falls by 25 dB at 4 kHz and 50 dB at 4.5 kHz.
ANCHOR_PASS_HZ, ANCHOR_STOP_HZ = 3500.0, 4000.0
ANCHOR_TAPS, ANCHOR_BETA = 349, 5.65


def low_anchor(wave: Wave) -> Wave:
    """Return ``(samples,)`` at 48 kHz without what lies above 3.5 kHz, not delayed."""
    middle_hz = (ANCHOR_PASS_HZ + ANCHOR_STOP_HZ) / 2
    place = np.arange(ANCHOR_TAPS) - ANCHOR_TAPS // 2
    share = 2 * middle_hz / SAMPLE_RATE
    kernel = share * np.sinc(share * place) * np.kaiser(ANCHOR_TAPS, ANCHOR_BETA)
    padded = np.pad(wave.astype(np.float64), ANCHOR_TAPS // 2)
    return np.convolve(padded, kernel, "valid").astype(np.float32)


def align(clip: Clip) -> Clip:
    """Return a clip whose systems all have -23 LUFS (ITU-R BS.1770), less where one would clip.

    The ends fade over 10 ms, so that a repeated clip does not click.

    Raises:
        AudioError: one is silent or shorter than 0.4 s, and so has no loudness.
    """
    waves = {name: _at_loudness(clip.name, name, wave) for name, wave in clip.waves.items()}
    peak = max(float(np.abs(wave).max()) for wave in waves.values())
    factor = min(1.0, HIGHEST_PEAK / peak)
    return Clip(clip.name, {name: _faded(factor * wave) for name, wave in waves.items()})


def _at_loudness(clip: str, system: str, wave: Wave) -> Wave:
    require("pyloudnorm", "a listening test")
    import pyloudnorm

    if len(wave) < SHORTEST_SECONDS * SAMPLE_RATE:
        raise AudioError(
            f"{clip} of {system}: {len(wave) / SAMPLE_RATE:.2f} s, expected at least "
            f"{SHORTEST_SECONDS} s, over which loudness is measured"
        )
    # At full scale: below -70 LUFS the meter takes sound for a pause.
    full = wave.astype(np.float64) / max(float(np.abs(wave).max()), TINY)
    loudness = pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(full)
    if not np.isfinite(loudness):
        raise AudioError(f"{clip} of {system}: is silent, so it cannot be as loud as the others")
    return (gain(LOUDNESS_LUFS - float(loudness)) * full).astype(np.float32)


def _faded(wave: Wave) -> Wave:
    fade = round(FADE_SECONDS * SAMPLE_RATE)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    faded = wave.astype(np.float32)
    faded[:fade] *= ramp
    faded[-fade:] *= ramp[::-1]
    return faded
