"""DNSMOS P.835: what listeners would say of speech, noise and both, without a reference.

The network's weights lie in the package ``speechmos``; they run here on one thread, so that many
processes can measure side by side. Heard at 16 kHz: it is blind above 8 kHz.
"""

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.functional import resample

from timbre import packages
from timbre.audio import SAMPLE_RATE

PACKAGES = ("speechmos", "onnxruntime")
RATE = 16_000
# What the network hears at a time, in samples, and how far it moves on.
SEGMENT = int(9.01 * RATE)
STEP = RATE
WEIGHTS = "dnsmos_models/sig_bak_ovr.onnx"
# From the network's numbers to listeners' (speechmos 0.0.1.1), highest power first.
SIGNAL = (-0.08397278, 1.22083953, 0.0052439)
BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)
OVERALL = (-0.06766283, 1.11546468, 0.04602535)


class Opinion(NamedTuple):
    """Mean opinion scores, 1 to 5: of the speech, of the background, of all."""

    signal: float
    background: float
    overall: float


def opinion(wave: Tensor) -> Opinion:
    """Return what listeners would say of ``(samples,)`` at 48 kHz; NaN where it is silent.

    A waveform shorter than 9 seconds is repeated, as the package does it.

    Raises:
        MissingPackageError: ``speechmos`` or ``onnxruntime`` is not installed.
    """
    session = _session(_weights())
    if not wave.any() or not wave.isfinite().all():
        return Opinion(np.nan, np.nan, np.nan)
    audible = resample(wave.float().cpu(), SAMPLE_RATE, RATE).clamp(-1, 1).numpy()
    outputs = np.stack(
        [session.run(None, {"input_1": part[None]})[0][0] for part in _parts(audible)]
    )
    scores = (
        float(np.polyval(polynomial, outputs[:, column].astype(np.float64)).mean())
        for column, polynomial in enumerate((SIGNAL, BACKGROUND, OVERALL))
    )
    return Opinion(*scores)


def _parts(wave: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    while len(wave) < SEGMENT:
        wave = np.concatenate([wave, wave])
    # The package's own count, in whole seconds.
    count = int(len(wave) // RATE - SEGMENT / RATE) + 1
    parts = [wave[start : start + SEGMENT] for start in range(0, count * STEP, STEP)]
    return [part for part in parts if len(part) == SEGMENT]


def _weights() -> Path:
    for name in PACKAGES:
        packages.require(name, "DNSMOS")
    package = find_spec("speechmos")
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0]) / WEIGHTS


@lru_cache(maxsize=1)
def _session(weights: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
