"""The impulse response of a made-up room."""

import numpy as np

from timbre.audio.synthetic.noise import shape_noise, within
from timbre.audio.waveform import SAMPLE_RATE, Wave

EARLY_REFLECTIONS = 8
DIRECT_DELAY = 96
# Share of the requested RT60 that remains in the octaves from 4 kHz up: air and soft walls.
HIGH_BANDS_HZ = (4000.0, 8000.0, 16000.0, 24001.0)
HIGH_DECAYS = (0.8, 0.6, 0.4)


def room_response(
    rt60_seconds: float, rng: np.random.Generator, direct_delay: int = DIRECT_DELAY
) -> Wave:
    """Return the impulse response ``(samples,)`` of a room, its direct path being 1 at ``direct_delay``.

    The diffuse tail falls by 60 dB in ``rt60_seconds`` up to 4 kHz and faster above, after a gap that
    early reflections fill (Moorer 1979, "About this reverberation business").
    """
    tail = round(rt60_seconds * SAMPLE_RATE)
    seconds = np.arange(tail) / SAMPLE_RATE
    colour = shape_noise(rng.standard_normal(tail), lambda hz: 1.0 / (1.0 + hz / 1500.0))
    edges = (0.0, *HIGH_BANDS_HZ)
    diffuse = np.zeros(tail)
    for low, high, share in zip(edges, HIGH_BANDS_HZ, (1.0, *HIGH_DECAYS), strict=False):
        band = shape_noise(colour, within(low, high))
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
