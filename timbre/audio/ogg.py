"""The streams of an Ogg file, one behind the other; libsndfile reads only the first."""

import struct
from typing import BinaryIO

from timbre.audio.splice import Splice, Stretch
from timbre.audio.window import WINDOW_BYTES, Window
from timbre.errors import AudioError

MARK = b"OggS"
BEGINS, ENDS = 2, 4


def links_of(file: BinaryIO, name: str) -> list[Splice] | None:
    """Return the streams of an Ogg file in their order; None for other files.

    Streams that begin together, as of sound and its captions, are one.

    Raises:
        AudioError: it breaks off, or pages are missing.
    """
    window = Window(file)
    if window.at(0, 4) != MARK:
        return None
    starts: list[int] = []
    place, in_head = 0, False
    numbers: dict[int, int] = {}
    open_streams: set[int] = set()
    while place < window.length:
        if not open_streams and starts and not _is_page_ahead(window, place):
            break  # what is behind the last stream is no sound
        flags, serial, number, length = _page(window, place, name)
        if flags & BEGINS:
            if not in_head:
                _check_ends(open_streams, name, place)
                starts.append(place)
                numbers.clear()
            open_streams.add(serial)
        elif number != numbers.get(serial, number - 1) + 1:
            raise AudioError(f"{name}: damaged: pages are missing at byte {place}")
        in_head, numbers[serial] = bool(flags & BEGINS), number
        if flags & ENDS:
            open_streams.discard(serial)
        place += length
    _check_ends(open_streams, name, place)
    stops = [*starts[1:], place]
    return [Splice(file, [Stretch(start, stop)]) for start, stop in zip(starts, stops, strict=True)]


def _is_page_ahead(window: Window, place: int) -> bool:
    while place < window.length:
        data = window.at(place, WINDOW_BYTES)
        if MARK in data:
            return True
        place += max(len(data) - 3, 1)
    return False


def _page(window: Window, place: int, name: str) -> tuple[int, int, int, int]:
    """Return a page's flags, stream, number in it, and length."""
    head = window.at(place, 27 + 255)
    if head[:4] != MARK:
        if len(head) < 4 and MARK.startswith(head):
            raise AudioError(f"{name}: breaks off within an Ogg page, at byte {window.length}")
        raise AudioError(f"{name}: damaged: at byte {place} there is no Ogg page")
    if len(head) < 27 or len(head) < 27 + head[26]:
        raise AudioError(f"{name}: breaks off within an Ogg page, at byte {window.length}")
    length = 27 + head[26] + sum(head[27 : 27 + head[26]])
    if place + length > window.length:
        raise AudioError(f"{name}: breaks off within an Ogg page, at byte {window.length}")
    serial, number = struct.unpack("<II", head[14:22])
    return head[5], serial, number, length


def _check_ends(open_streams: set[int], name: str, place: int) -> None:
    if open_streams:
        raise AudioError(
            f"{name}: breaks off: the Ogg page that ends a stream is not there before byte {place}"
        )
