"""Raw PCM, samples without a header: blocks from a pipe as they come, and blocks as bytes."""

from collections.abc import Iterator
from io import FileIO
from typing import Any

import numpy as np

from timbre.audio import Wave, to_int16
from timbre.errors import AudioError

ENCODINGS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
# As much as a pipe holds: whoever writes faster than real time is read in large pieces.
MOST_BYTES = 1 << 16


class PcmSource:
    """Blocks ``(channels, samples)`` of raw PCM: whatever has arrived, at least one sample of each.

    Raises, when blocks are read:
        AudioError: a sample is not finite.
    """

    def __init__(self, file: FileIO, encoding: str, channels: int) -> None:
        self._file, self._encoding, self._channels = file, encoding, channels
        self._rest = b""

    def __iter__(self) -> Iterator[Wave]:
        frame_bytes = self._frame_bytes()
        while data := self._file.read(MOST_BYTES):
            data = self._rest + data
            whole = len(data) // frame_bytes * frame_bytes
            self._rest = data[whole:]
            if whole:
                yield _decode(data[:whole], ENCODINGS[self._encoding], self._channels)

    def check_end(self) -> None:
        """Raise AudioError where the end came within the samples of one moment."""
        if self._rest:
            raise AudioError(
                f"standard input: ends with {len(self._rest)} of {self._frame_bytes()} bytes; "
                f"expected whole samples, {self._encoding}, channels: {self._channels}"
            )

    def _frame_bytes(self) -> int:
        return ENCODINGS[self._encoding].itemsize * self._channels


def to_bytes(block: Wave, encoding: str) -> bytes:
    """Return ``(channels, samples)`` as raw PCM; 16-bit samples end at full scale, floats do not."""
    kind = ENCODINGS[encoding]
    if kind.kind == "i":
        return to_int16(block).T.astype(kind).tobytes()
    return block.T.astype(kind).tobytes()


def _decode(data: bytes, kind: np.dtype[Any], channels: int) -> Wave:
    frames = np.frombuffer(data, kind).reshape(-1, channels)
    if kind.kind == "i":
        return np.ascontiguousarray(frames.T, np.float32) / np.float32(32768)
    if not np.isfinite(frames).all():
        raise AudioError("standard input: holds NaN or infinite samples")
    return np.ascontiguousarray(frames.T, np.float32)
