"""A tone."""

import numpy as np

from timbre.audio import Wave


def tone(hz: float, rate: int, seconds: float = 0.5) -> Wave:
    """Return ``(samples,)`` of a sine with a peak of 0.5."""
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)
