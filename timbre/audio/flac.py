"""How long a FLAC file is: its last frame says it, where the header says nothing, or less.

libsndfile reads as many samples as the header says. A program that writes into a pipe cannot come back
to put them there.
"""

from functools import cache
from typing import BinaryIO

from timbre.audio.splice import Splice, Stretch
from timbre.audio.window import WINDOW_BYTES, Window
from timbre.errors import AudioError

MARK, TAG_MARK, TAG_BYTES = b"fLaC", b"TAG", 128
# Where the 36 bits with the number of samples begin, less 4 bits of something else.
SAMPLES_AT, SAMPLES_BITS = 21, 36
# RFC 9639: of a frame's header, and of the whole frame.
POLYNOMIAL_8, POLYNOMIAL_16 = 0x07, 0x8005
SYNC = (b"\xff\xf8", b"\xff\xf9")
LONGEST_HEADER = 16
# By the code in a frame's header; 0 for codes that are none, or that a field behind it stands for.
BLOCK_SAMPLES = (0, 192, *(576 << n for n in range(4)), 0, 0, *(256 << n for n in range(8)))
# What looks like a header may be sound; but where so many do, the last frame is not whole.
MOST_TRIES = 3


def links_of(file: BinaryIO, name: str) -> list[Splice] | None:
    """Return a FLAC file as one stream whose header says its length; None for other files.

    The header of a file whose last frame cannot be found is left as it is.

    Raises:
        AudioError: there is more sound than the header says.
    """
    window = Window(file)
    head = window.at(0, SAMPLES_AT + 5)
    if head[:4] != MARK or len(head) < SAMPLES_AT + 5:
        return None
    sample_count = int.from_bytes(head[SAMPLES_AT:], "big") % (1 << SAMPLES_BITS)
    samples = _samples(window, int.from_bytes(head[10:12], "big"))
    if samples is None or sample_count >= samples:
        return [Splice(file, [Stretch(0, window.length)])]
    if sample_count:
        raise AudioError(
            f"{name}: its header says {sample_count} samples, but its last frame ends at {samples}; write it "
            "again, for example: ffmpeg -i IN OUT.flac"
        )
    field = (head[SAMPLES_AT] >> 4 << SAMPLES_BITS | samples).to_bytes(5, "big")
    behind = Stretch(SAMPLES_AT + 5, window.length)
    return [Splice(file, [Stretch(0, SAMPLES_AT), field, behind])]


def _samples(window: Window, block: int) -> int | None:
    """Return where the last frame ends, in samples; None if there is none that ends with the file.

    Args:
        window: of the file.
        block: the samples of a frame, where all but the last have as many.
    """
    stop = window.length
    if window.at(max(stop - TAG_BYTES, 0), 3) == TAG_MARK:
        stop -= TAG_BYTES
    first = max(stop - WINDOW_BYTES, 0)
    data = window.at(first, stop - first)
    place = len(data)
    tries = MOST_TRIES
    while (place := max(data.rfind(sync, 0, place) for sync in SYNC)) >= 0:
        end = _frame_end(data[place : place + LONGEST_HEADER], block)
        if end is None:
            continue
        if _remainder(data[place:], POLYNOMIAL_16, 16) == 0:
            return end
        tries -= 1
        if not tries:
            break
    return None


def _frame_end(head: bytes, block: int) -> int | None:
    """Return which sample follows the frame with this header; None if it is no header."""
    if len(head) < 6 or head[3] & 1:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    number_bytes = max(ones, 1)
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 4 + number_bytes]:
        number = number << 6 | byte & 0x3F
    place, size, rate = 4 + number_bytes, head[2] >> 4, head[2] & 15
    size_bytes = {6: 1, 7: 2}.get(size, 0)
    samples = _block_samples(size, head[place : place + size_bytes])
    place += size_bytes + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if not samples or len(head) <= place or _remainder(head[: place + 1], POLYNOMIAL_8, 8):
        return None
    return (number if head[1] & 1 else number * block) + samples


def _block_samples(code: int, field: bytes) -> int:
    """Return how many samples a frame of this code has; 0 for none."""
    if field:
        return int.from_bytes(field, "big") + 1
    return BLOCK_SAMPLES[code]


@cache
def _table(polynomial: int, bits: int) -> list[int]:
    """Return the remainder of each byte."""
    top, mask, table = 1 << (bits - 1), (1 << bits) - 1, []
    for byte in range(256):
        entry = byte << (bits - 8)
        for _ in range(8):
            entry = (entry << 1 ^ polynomial if entry & top else entry << 1) & mask
        table.append(entry)
    return table


def _remainder(data: bytes, polynomial: int, bits: int) -> int:
    """Return the cyclic redundancy check of bytes; 0 where they end with their own."""
    table, mask, value = _table(polynomial, bits), (1 << bits) - 1, 0
    for byte in data:
        value = (value << 8 & mask) ^ table[(value >> (bits - 8)) ^ byte]
    return value
