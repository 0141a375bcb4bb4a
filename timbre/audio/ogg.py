"""The streams of an Ogg file, one behind the other; libsndfile reads only the first."""

import struct
from typing import BinaryIO, NamedTuple

from timbre.audio.splice import Splice, Stretch
from timbre.audio.window import WINDOW_BYTES, Window
from timbre.errors import AudioError

MARK = b"OggS"
BEGINS, ENDS = 2, 4
# How the first packet of a sound begins.
SOUNDS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")


def links_of(file: BinaryIO, name: str) -> list[Splice] | None:
    """Return the streams of an Ogg file in their order; None for other files.

    Streams that begin together, as of sound and its captions, are one.

    Raises:
        AudioError: it breaks off, pages are missing, or it holds several sounds at one time.
    """
    window = Window(file)
    if window.at(0, 4) != MARK:
        return None
    links, place = _Links(name), 0
    while place < window.length:
        if not links.are_open and place and not _is_page_ahead(window, place):
            break  # what is behind the last stream is no sound
        page = _page(window, place, name)
        links.add(page, place)
        place += page.length
    links.check_ended(place)
    stops = [*links.starts[1:], place]
    return [
        Splice(file, [Stretch(start, stop)])
        for start, stop in zip(links.starts, stops, strict=True)
    ]


class _Page(NamedTuple):
    """A page's flags, stream, number in it, length, and whether a sound's first packet is on it."""

    flags: int
    serial: int
    number: int
    length: int
    is_sound: bool


class _Links:
    """Where each link of a file starts, from page to page."""

    def __init__(self, name: str) -> None:
        self.starts: list[int] = []
        self._name, self._in_head, self._sounds = name, False, 0
        self._numbers: dict[int, int] = {}
        self._open: set[int] = set()

    @property
    def are_open(self) -> bool:
        """Whether a stream has not ended yet."""
        return bool(self._open)

    def add(self, page: _Page, place: int) -> None:
        """Take the next page, which begins at ``place``."""
        begins = bool(page.flags & BEGINS)
        if begins:
            self._begin(page, place)
        elif not self.starts:
            raise AudioError(f"{self._name}: damaged: the first Ogg page begins no stream")
        elif page.number != self._numbers.get(page.serial, page.number - 1) + 1:
            raise AudioError(f"{self._name}: damaged: pages are missing at byte {place}")
        self._in_head, self._numbers[page.serial] = begins, page.number
        if page.flags & ENDS:
            self._open.discard(page.serial)

    def check_ended(self, place: int) -> None:
        """Raise AudioError where a stream has not ended before ``place``."""
        if self._open:
            raise AudioError(
                f"{self._name}: breaks off: the Ogg page that ends a stream is not there before "
                f"byte {place}"
            )

    def _begin(self, page: _Page, place: int) -> None:
        if not self._in_head:
            self.check_ended(place)
            self.starts.append(place)
            self._numbers.clear()
            self._sounds = 0
        self._open.add(page.serial)
        self._sounds += page.is_sound
        if self._sounds > 1:
            raise AudioError(
                f"{self._name}: holds several sounds at one time; write each as a file of its own"
            )


def _is_page_ahead(window: Window, place: int) -> bool:
    while place < window.length:
        data = window.at(place, WINDOW_BYTES)
        if MARK in data:
            return True
        place += max(len(data) - 3, 1)
    return False


def _page(window: Window, place: int, name: str) -> _Page:
    """Return the page at a place."""
    head = window.at(place, 27 + 255)
    if head[:4] != MARK:
        if len(head) < 4 and MARK.startswith(head):
            raise AudioError(f"{name}: breaks off within an Ogg page, at byte {window.length}")
        raise AudioError(f"{name}: damaged: at byte {place} there is no Ogg page")
    if len(head) < 27 or len(head) < 27 + head[26]:
        raise AudioError(f"{name}: breaks off within an Ogg page, at byte {window.length}")
    body = 27 + head[26]
    length = body + sum(head[27:body])
    if place + length > window.length:
        raise AudioError(f"{name}: breaks off within an Ogg page, at byte {window.length}")
    serial, number = struct.unpack("<II", head[14:22])
    is_sound = window.at(place + body, 8).startswith(SOUNDS)
    return _Page(head[5], serial, number, length, is_sound)
