"""The level of bands of sound."""

import numpy as np
from numpy.typing import NDArray


def spectrum_db(wave: NDArray[np.float32], share: float) -> NDArray[np.float64]:
    """Level of 1-kHz bands in the frames at a quantile, (24,)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, 1920)[::960] * np.hanning(1920)
    power = np.abs(np.fft.rfft(frames))[:, :960] ** 2
    bands = power.reshape(len(frames), 24, 40).mean(axis=2)
    levels: NDArray[np.float64] = 10 * np.log10(np.quantile(bands, share, axis=0) + 1e-20)
    return levels
