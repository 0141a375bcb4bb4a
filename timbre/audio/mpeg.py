"""The frames of an MPEG audio stream, counted, so that its length is known.

libsndfile guesses the length of a stream that does not say it: one without a Xing or Info frame, or
with tags in front. Here every frame's header is read, as a full decoder does. Where the stream does
not say its length rightly, an Info frame that does is put in its front.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from timbre.audio.splice import Splice, Stretch
from timbre.audio.window import Window
from timbre.errors import AudioError

# kbit/s by (MPEG 1, layer), for the indices 1 to 14.
BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# Version bits to the sample rates that they stand for: 2.5, 2, 1.
RATES = {0: (11_025, 12_000, 8_000), 2: (22_050, 24_000, 16_000), 3: (44_100, 48_000, 32_000)}
# How far in, behind tags, the first frame may lie.
SEARCHED_BYTES = 65_536
# What a decoder drops of every stream whose number of frames it knows.
DECODER_DELAY = 529
# Xing, flags, number of frames, and LAME's own fields.
INFO_BYTES = 12 + 36
# Less than this behind the last frame is no sound: no frame is longer.
LONGEST_FRAME = 2_881


class Header(NamedTuple):
    """What a frame's header says. Frames of one stream agree in ``stream``."""

    bytes: int
    samples: int
    info_offset: int
    stream: tuple[int, int, int, bool]


@dataclass
class Link:
    """Frames that one encoder wrote, from byte ``start`` on; with its own Xing or Info frame or none.

    ``frame_count`` is how many frames the Xing or Info frame says that follow it, ``count_at`` where it
    says so; 0 where it does not.
    """

    start: int
    header: Header
    first: bytes
    has_info: bool = False
    frame_count: int = 0
    stated_bytes: int = 0
    count_at: int = 0
    frames: int = 0
    stop: int = 0


def links_of(file: BinaryIO, name: str) -> list[Splice] | None:
    """Return the streams in an MPEG audio file, each with its right length; None for other files.

    A file that is as it should be is one stream, as it is.

    Raises:
        AudioError: it breaks off, or has no frame where one must be.
    """
    window = Window(file)
    start = _first_frame(window)
    if start is None:
        return None
    links = list(_walk(window, start, name))
    for link in links:
        _check_whole(link, name)
    first = links[0]
    if (
        len(links) == 1
        and first.start == 0
        and first.has_info
        and first.frame_count == first.frames
    ):
        return [Splice(file, [Stretch(0, window.length)])]
    return [_with_length(file, link) for link in links]


def parse_header(data: bytes) -> Header | None:
    """Return what the four bytes of a frame's header say; None if they are none, or free format."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)
    bitrate, rate = data[2] >> 4, data[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3 or data[3] & 3 == 2:
        return None
    first, mono, padding = version == 3, data[3] >> 6 == 3, data[2] >> 1 & 1
    hertz = RATES[version][rate]
    bits = BITRATES[first, layer][bitrate - 1] * 1000
    if layer == 1:
        length, samples = (12 * bits // hertz + padding) * 4, 384
    else:
        samples = 576 if layer == 3 and not first else 1152
        length = samples // 8 * bits // hertz + padding
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Header(length, samples, 4 + side, (version, layer, rate, mono))


def _first_frame(window: Window) -> int | None:
    """Return where the first frame begins, behind tags and a little of something else."""
    start = _behind_tags(window, 0)
    if window.at(start, 4) in (b"fLaC", b"OggS", b"RIFF", b"FORM", b"RIFX", b"RF64"):
        return None
    return _next_frame(window, start, None, SEARCHED_BYTES)


def _next_frame(window: Window, start: int, stream: object, within: int) -> int | None:
    """Return where the next frame begins that another one of its stream follows, or the end."""
    data = window.at(start, within + 4)
    place = data.find(b"\xff")
    while 0 <= place < within:
        header = parse_header(data[place : place + 4])
        if header and (stream is None or header.stream == stream):
            place_after = start + place + header.bytes
            other = parse_header(window.at(place_after, 4))
            if (other and other.stream == header.stream) or place_after == window.length:
                return start + place
        place = data.find(b"\xff", place + 1)
    return None


def _behind_tags(window: Window, place: int) -> int:
    """Return where the next thing begins that is no tag, and no run of zeros."""
    while length := _tag_bytes(window, place):
        place += length
    return place


def _tag_bytes(window: Window, place: int) -> int:
    """Return the length of the tag or the zeros at a place; 0 if there are none."""
    head = window.at(place, 32)
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size, _, flags = struct.unpack("<3I", head[12:24])
        return int(size) + (32 if flags & 1 << 31 and flags & 1 << 29 else 0) or 32
    if head[:4] == b"TAG+":
        return 227
    if head[:3] == b"TAG":
        return 128
    if head[:11] == b"LYRICSBEGIN":
        end = max(window.at(place, 1 << 20).find(mark) for mark in (b"LYRICS200", b"LYRICSEND"))
        return end + 9 if end >= 0 else 0
    zeros = window.at(place, 4096)
    return len(zeros) - len(zeros.lstrip(b"\0"))


def _walk(window: Window, place: int, name: str) -> Iterator[Link]:
    """Yield the streams from a place on; each ends at a tag, at another's first frame, or at the end."""
    link: Link | None = None
    while place < window.length:
        header = parse_header(window.at(place, 4))
        if header is None or (link and header.stream != link.header.stream):
            if link:
                link.stop = place
                yield link
                link = None
            place_after = _resume(window, place, header, name)
            if place_after is None:
                return
            place = place_after
            continue
        if place + header.bytes > window.length:
            raise AudioError(f"{name}: breaks off within its last frame, at byte {window.length}")
        info = _info_frame(window, place, header)
        if info is not None or link is None:
            if link:
                link.stop = place
                yield link
            link = info or Link(place, header, window.at(place, 4))
        link.frames += info is None
        place += header.bytes
    if link:
        link.stop = place
        yield link


def _resume(window: Window, place: int, header: Header | None, name: str) -> int | None:
    """Return where frames go on behind what is no frame of the stream; None where they end.

    Raises:
        AudioError: there is something else than a tag or another stream.
    """
    behind = _behind_tags(window, place)
    if behind >= window.length:
        return None
    if _next_frame(window, behind, None, 1) is not None:
        return behind
    if window.length - behind < LONGEST_FRAME and header is None:
        return None
    raise AudioError(
        f"{name}: damaged: at byte {behind} of {window.length} there is no MPEG frame; what can be "
        f"decoded of it, ffmpeg -i IN.mp3 OUT.wav writes"
    )


def _info_frame(window: Window, place: int, header: Header) -> Link | None:
    """Return the stream that a Xing, Info or VBRI frame begins; None for a frame of sound."""
    if header.stream[1] != 3:
        return None
    frame = window.at(place, header.bytes)
    at = header.info_offset
    if frame[at : at + 4] in (b"Xing", b"Info"):
        link = Link(place, header, frame[:4], True)
        flags = int.from_bytes(frame[at + 4 : at + 8], "big")
        if flags & 1:
            link.count_at = at + 8
            link.frame_count = int.from_bytes(frame[at + 8 : at + 12], "big")
        if flags & 2:
            first = at + 8 + (4 if flags & 1 else 0)
            link.stated_bytes = int.from_bytes(frame[first : first + 4], "big")
        return link
    if frame[36:40] == b"VBRI":
        # Always read anew: the Info frame of our own takes its place.
        return Link(place + header.bytes, header, frame[:4], False)
    return None


def _check_whole(link: Link, name: str) -> None:
    # Some encoders count the Info frame, too; then the bytes say that nothing is missing.
    is_short = link.frames < link.frame_count and link.stop - link.start < (
        link.stated_bytes or 1 << 62
    )
    if is_short:
        raise AudioError(
            f"{name}: breaks off after {link.frames} of {link.frame_count} MPEG frames"
        )
    if link.frames == 0:
        raise AudioError(f"{name}: holds no samples")
    if link.header.stream[1] != 3:
        raise AudioError(
            f"{name}: is MPEG audio of layer {link.header.stream[1]}, whose length libsndfile cannot "
            f"tell; convert it, for example: ffmpeg -i IN OUT.wav"
        )


def _with_length(file: BinaryIO, link: Link) -> Splice:
    """Return a stream whose first frame says how many frames it has."""
    if link.has_info and link.frame_count == link.frames:
        return Splice(file, [Stretch(link.start, link.stop)])
    if link.has_info and link.frame_count:
        at = link.start + link.count_at
        count = link.frames.to_bytes(4, "big")
        return Splice(file, [Stretch(link.start, at), count, Stretch(at + 4, link.stop)])
    info_bytes = link.header.bytes if link.has_info else 0
    return Splice(file, [_front(link), Stretch(link.start + info_bytes, link.stop)])


def _front(link: Link) -> bytes:
    """Return an Info frame that says a stream's number of frames, and a frame of silence.

    A decoder that knows the number of frames drops 529 samples, its own delay, which the stream's
    length has in it. So there is a silent frame more, and its samples are all that is dropped.
    """
    info, silence = _shortest_frame(link, INFO_BYTES), _shortest_frame(link, 0)
    delay = link.header.samples - DECODER_DELAY
    lame = b"timbre".ljust(21) + (delay << 12 | DECODER_DELAY).to_bytes(3, "big")
    count = (link.frames + 1).to_bytes(4, "big")
    offset = link.header.info_offset
    frame = info[:offset] + b"Info" + (1).to_bytes(4, "big") + count + lame
    return frame.ljust(len(info), b"\0") + silence


def _shortest_frame(link: Link, room: int) -> bytes:
    """Return the shortest silent frame of a stream that has so many bytes behind its side info."""
    first = link.first
    for bitrate in range(1, 15):
        head = bytes([first[0], first[1] | 1, bitrate << 4 | first[2] & 0x0C, first[3]])
        header = parse_header(head)
        assert header is not None
        if header.bytes >= header.info_offset + room:
            return head.ljust(header.bytes, b"\0")
    raise AssertionError("no frame has room for an Info frame")
