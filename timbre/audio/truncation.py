"""Whether an audio file is all there: libsndfile takes what is left of several formats for the whole.

FLAC's decoder and MP3's frame count (where the file has one) tell it themselves. A bare MP3 stream
has nothing that would.
"""

import io
import struct
from typing import BinaryIO

from timbre.errors import AudioError

# Whoever writes WAV into a pipe cannot come back to fill in the length, and writes about this much.
UNKNOWN_BYTES = 0x7FFF_0000
# An Ogg page is no longer than this.
OGG_PAGE_BYTES = 27 + 255 + 255 * 255
OGG_END_FLAG = 4
W64_MARK = bytes.fromhex("726966662e91cf11a5d628db04c10000")


def check_whole(file: BinaryIO, name: str) -> None:
    """Raise AudioError where an open file is shorter than it says, or ends before its end mark."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(40)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX") and head[8:12] == b"WAVE":
        declared = _wave_bytes(file, length)
    elif head[:4] == b"FORM" and len(head) >= 8:
        declared = 8 + int.from_bytes(head[4:8], "big")
    elif head[:16] == W64_MARK and len(head) >= 24:
        declared = int.from_bytes(head[16:24], "little")
    elif head[:4] == b"OggS":
        _check_ogg_end(file, name, length)
        return
    else:
        return
    if length < declared:
        raise AudioError(f"{name}: breaks off after {length} of {declared} bytes")


def _wave_bytes(file: BinaryIO, length: int) -> int:
    """Return where a WAV file's samples say that they end; 0 where they do not say."""
    file.seek(0)
    order = ">" if file.read(4) == b"RIFX" else "<"
    at, long_data = 12, 0
    while at + 8 <= length:
        file.seek(at)
        kind, size = struct.unpack(f"{order}4sI", file.read(8))
        at += 8
        if kind == b"ds64" and at + 16 <= length:
            long_data = struct.unpack("<QQ", file.read(16))[1]
        if kind == b"data":
            if size == 0xFFFF_FFFF and long_data:
                return int(at + long_data)
            return 0 if size >= UNKNOWN_BYTES > length else int(at + size)
        at += size + size % 2
    return at


def _check_ogg_end(file: BinaryIO, name: str, length: int) -> None:
    first = max(length - OGG_PAGE_BYTES, 0)
    file.seek(first)
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page >= 0 and len(tail) >= page + 27:
        segments = tail[page + 27 : page + 27 + tail[page + 26]]
        end = page + 27 + tail[page + 26] + sum(segments)
        if tail[page + 5] & OGG_END_FLAG and len(tail) >= end:
            return
    raise AudioError(f"{name}: breaks off: the Ogg page that ends a stream is not there")
