"""What a waveform is in timbre: the rate, the types, and 16-bit samples of one."""

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 48_000
# 10 ms: what a network by hop takes at a time.
HOP = SAMPLE_RATE // 100

Wave = NDArray[np.float32]
Int16Wave = NDArray[np.int16]


def to_int16(wave: Wave) -> Int16Wave:
    """Return the 16-bit samples nearest to ``wave``; what FLAC and WAV shards hold."""
    scaled: Int16Wave = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
    return scaled
