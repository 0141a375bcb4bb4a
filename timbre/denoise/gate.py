"""Spectral gating by ``noisereduce`` at its defaults: a threshold in each band that follows the noise.

It needs no weights, and is what many recordings on the web went through.
"""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from timbre import packages
from timbre.audio import SAMPLE_RATE, Wave
from timbre.denoiser_names import GATE
from timbre.errors import WorkError

PACKAGE = "noisereduce"
# As the package cuts long signals: so many samples at a time, and so many more on either side.
CHUNK, AROUND = 600_000, 30_000


class Gate:
    """``noisereduce.reduce_noise(clip, 48000)``, which looks ahead: not for live signals.

    Raises:
        MissingPackageError: the package is not installed.
    """

    name = GATE
    sample_rate = SAMPLE_RATE
    latency_samples = 0

    def __init__(self) -> None:
        packages.require(PACKAGE, f"denoiser {GATE}")
        facts = f"{PACKAGE} {version(PACKAGE)}"
        self.weights_sha256 = hashlib.sha256(facts.encode()).hexdigest()

    def denoise_clips(self, clips: Sequence[Wave]) -> list[Wave]:
        """Return each ``(samples,)`` denoised, as long as it was."""
        return [self._denoise(clip) for clip in clips]

    def by_hop(self) -> None:
        """Return None: the threshold of a moment depends on the seconds behind it."""
        return None

    def _denoise(self, clip: Wave) -> Wave:
        """Return the clip denoised, in the package's own chunks: of silence it makes NaN."""
        size = min(len(clip), CHUNK)
        chunks = -(-len(clip) // CHUNK)
        padded = np.pad(clip, (AROUND, AROUND + chunks * size - len(clip)))
        results = [
            _reduce(padded[start : start + size + 2 * AROUND])
            for start in range(0, chunks * size, CHUNK)
        ]
        return np.concatenate(results)[: len(clip)] if results else clip


def _reduce(chunk: Wave) -> Wave:
    """Return the middle of a chunk denoised."""
    from noisereduce import reduce_noise

    if not chunk.any():
        return chunk[AROUND:-AROUND]
    with np.errstate(invalid="ignore", divide="ignore"):
        reduced: Wave = reduce_noise(chunk, SAMPLE_RATE, chunk_size=None, padding=0)
    if not np.isfinite(reduced).all():
        raise WorkError(f"denoiser {GATE}: gives NaN or infinite samples")
    return reduced[AROUND:-AROUND]
