"""Files of chunks (WAV, RF64, W64, AIFF, CAF) and AU: whether they are whole, and what they say wrongly.

libsndfile takes what is left of them for the whole, and where a recorder could not come back to write
the length of the samples, it finds none.
"""

import struct
from typing import BinaryIO, NamedTuple

from timbre.audio.splice import Splice, Stretch
from timbre.audio.window import Window
from timbre.errors import AudioError

# Who writes WAV into a pipe cannot come back to fill in the length, and writes about this much.
UNKNOWN_BYTES, UNKNOWN_BYTES_OF_64 = 0x7FFF_0000, 1 << 62
MOST_OF_32_BITS = 0xFFFF_FFFF
MARKS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"riff", b"caff", b".snd", b"fLaC")
W64_MARK = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_ID_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
# Format tags of WAV for codecs that pad to whole blocks: MS and IMA ADPCM, GSM 6.10.
PADDED_FORMATS = (0x0002, 0x0011, 0x0031)
PCM, EXTENSIBLE, *MPEG = (struct.pack("<H", tag) for tag in (0x0001, 0xFFFE, 0x0050, 0x0055))


class Dialect(NamedTuple):
    """How a family of files writes its chunks.

    Attributes:
        first: where the first chunk begins.
        id_bytes: of a chunk's name.
        size: the ``struct`` format of its length.
        align: chunks begin at multiples of this.
        inclusive: whether the length counts name and length.
        data: the name of the chunk with the samples.
        lead: bytes in it before the samples.
    """

    first: int
    id_bytes: int
    size: str
    align: int
    inclusive: bool
    data: bytes
    lead: int


RIFF = Dialect(12, 4, "<I", 2, False, b"data", 0)
DIALECTS = {
    b"RIFF": RIFF,
    b"RF64": RIFF,
    b"RIFX": RIFF._replace(size=">I"),
    b"FORM": Dialect(12, 4, ">I", 2, False, b"SSND", 8),
    b"riff": Dialect(40, 16, "<Q", 8, True, b"data" + W64_ID_TAIL, 0),
    b"caff": Dialect(8, 4, ">Q", 1, False, b"data", 4),
}


class Chunk(NamedTuple):
    """A chunk: its name, where its length stands, where its content begins, and its length."""

    name: bytes
    size_at: int
    start: int
    bytes: int


class Layout(NamedTuple):
    """How an audio file is to be read.

    Attributes:
        links: files that libsndfile reads, one behind the other.
        samples: how many of a decoder's samples are the file's; None for all.
        note: what a user should know of the file, or None.
    """

    links: list[Splice]
    samples: int | None = None
    note: str | None = None


def layout_of(file: BinaryIO, name: str) -> Layout | None:
    """Return how a file of chunks is to be read; None for other files.

    Raises:
        AudioError: it breaks off, or another file follows in it.
    """
    window = Window(file)
    head = window.at(0, 40)
    if head[:4] == b".snd" and len(head) >= 24:
        start, size = struct.unpack(">II", head[4:12])
        return _layout(file, window, Chunk(b"data", 8, start, size), None, name)
    dialect = DIALECTS.get(head[:4])
    if dialect is None or (head[:4] == b"riff" and head[:16] != W64_MARK):
        return None
    chunks, end = _chunks(window, dialect)
    _check_end(head, end, window.length, name)
    data = chunks.get(dialect.data)
    if data is None:
        return Layout([Splice(file, [Stretch(0, window.length)])])
    layout = _layout(file, window, data, dialect, name)
    _refuse_mpeg(window, chunks, name)
    links = layout.links
    if head[:4] == b"riff":
        links = [_with_plain_format(link, window, chunks) for link in links]
    return layout._replace(links=links, samples=_stated_samples(window, chunks, dialect))


def _check_end(head: bytes, end: int, length: int, name: str) -> None:
    """Raise AudioError where a file is shorter than its header or its chunks before the samples say."""
    length_by_header = end
    if head[:4] == b"FORM":
        size = 8 + int.from_bytes(head[4:8], "big")
        length_by_header = max(length_by_header, size if size < UNKNOWN_BYTES else 0)
    elif head[:4] == b"riff":
        size = int.from_bytes(head[16:24], "little")
        length_by_header = max(length_by_header, size if size < UNKNOWN_BYTES_OF_64 else 0)
    if length < length_by_header:
        raise AudioError(f"{name}: breaks off after {length} of {length_by_header} bytes")


def _chunks(window: Window, dialect: Dialect) -> tuple[dict[bytes, Chunk], int]:
    """Return the chunks up to that of the samples, and where the last one before it ends."""
    chunks: dict[bytes, Chunk] = {}
    place, length_64 = dialect.first, None
    while (chunk := _chunk(window, place, dialect)) is not None:
        if chunk.name == b"ds64":
            length_64 = int.from_bytes(window.at(chunk.start + 8, 8), "little")
        if chunk.name == dialect.data:
            if length_64 and chunk.bytes == MOST_OF_32_BITS:
                chunk = chunk._replace(bytes=length_64)
            chunks[chunk.name] = chunk
            break
        chunks.setdefault(chunk.name, chunk)
        place = _next(chunk, dialect)
    return chunks, place


def _chunk(window: Window, place: int, dialect: Dialect) -> Chunk | None:
    size_at = place + dialect.id_bytes
    start = size_at + struct.calcsize(dialect.size)
    head = window.at(place, start - place)
    if len(head) < start - place:
        return None
    (size,) = struct.unpack(dialect.size, head[dialect.id_bytes :])
    if dialect.inclusive:
        size = max(size - (start - place), 0)
    return Chunk(head[: dialect.id_bytes], size_at, start, size)


def _next(chunk: Chunk, dialect: Dialect) -> int:
    end = chunk.start + chunk.bytes
    return end + -end % dialect.align


def _layout(
    file: BinaryIO, window: Window, data: Chunk, dialect: Dialect | None, name: str
) -> Layout:
    """Return how a file with these samples is to be read."""
    whole = Layout([Splice(file, [Stretch(0, window.length)])])
    lead = dialect.lead if dialect else 0
    rest = window.length - data.start
    wide = dialect is not None and struct.calcsize(dialect.size) == 8
    if data.bytes > rest:
        # Written into a pipe. With 32 bits libsndfile reads to the end by itself.
        if wide and data.bytes >= UNKNOWN_BYTES_OF_64:
            return _with_size(file, window, data, dialect, name)
        if not wide and data.bytes >= UNKNOWN_BYTES:
            return whole
        raise AudioError(
            f"{name}: breaks off after {window.length} of {data.start + data.bytes} bytes"
        )
    end = data.start + data.bytes
    if end + 1 >= window.length or (dialect is None and data.bytes):
        return whole
    if data.bytes <= lead:
        if dialect is not None and _are_chunks(window, _next(data, dialect), dialect):
            return whole
        note = f"its header says that it holds 0 bytes of sound; {rest - lead} follow and are read"
        return _with_size(file, window, data, dialect, name)._replace(note=note)
    if not wide and rest > MOST_OF_32_BITS and (rest - data.bytes) % (MOST_OF_32_BITS + 1) <= 1:
        note = "its header has no room for its length, and says less; all of it is read"
        return _with_size(file, window, data, dialect, name)._replace(note=note)
    return whole._replace(note=_note_behind(window, data, dialect, name))


def _note_behind(window: Window, data: Chunk, dialect: Dialect | None, name: str) -> str | None:
    """Return what to say of the bytes behind the samples; None for chunks and zeros.

    Raises:
        AudioError: they are another audio file.
    """
    end = data.start + data.bytes
    for place in (end, end + 1):
        if window.at(place, 4) in MARKS:
            raise AudioError(
                f"{name}: another audio file begins in it at byte {place}; split it there"
            )
    if dialect is not None and _are_chunks(window, _next(data, dialect), dialect):
        return None
    if not window.at(end, 1 << 16).strip(b"\0"):
        return None
    return f"{window.length - end} bytes behind the sound are not part of it, and are not read"


def _are_chunks(window: Window, place: int, dialect: Dialect) -> bool:
    """Whether chunks go on from a place to the end of the file."""
    count = 0
    while place < window.length:
        chunk = _chunk(window, place, dialect)
        if (
            chunk is None
            or not chunk.name[:4].isascii()
            or not chunk.name[:4].decode().isprintable()
        ):
            break
        if chunk.start + chunk.bytes > window.length:
            break
        place, count = _next(chunk, dialect), count + 1
    return place >= window.length or (count > 0 and not window.at(place, 1 << 16).strip(b"\0"))


def _with_size(
    file: BinaryIO, window: Window, data: Chunk, dialect: Dialect | None, name: str
) -> Layout:
    """Return a file whose header says that its samples go on to its end."""
    size, length = window.length - data.start, window.length
    if dialect is not None and dialect.inclusive:
        size += data.start - data.size_at + dialect.id_bytes
    head: list[Stretch | bytes] = [Stretch(0, data.size_at)]
    format = dialect.size if dialect else ">I"
    if struct.calcsize(format) == 4 and size > MOST_OF_32_BITS:
        if window.at(0, 4) != b"RIFF":
            raise AudioError(
                f"{name}: holds {length} bytes, of which its format can say 4294967295"
            )
        # RF64 is WAV whose lengths have 64 bits, in a chunk of their own.
        lengths = struct.pack("<4sIQQQI", b"ds64", 28, length, size, 0, 0)
        head = [b"RF64\xff\xff\xff\xffWAVE" + lengths, Stretch(12, data.size_at)]
        size = MOST_OF_32_BITS
    field = struct.pack(format, size)
    rest = Stretch(data.size_at + len(field), length)
    return Layout([Splice(file, [*head, field, rest])])


def _refuse_mpeg(window: Window, chunks: dict[bytes, Chunk], name: str) -> None:
    format = chunks.get(b"fmt ")
    if format is not None and window.at(format.start, 2) in MPEG:
        raise AudioError(
            f"{name}: is MPEG audio in a WAV file, whose length libsndfile cannot tell; convert it, "
            "for example: ffmpeg -i IN OUT.wav"
        )


def _with_plain_format(link: Splice, window: Window, chunks: dict[bytes, Chunk]) -> Splice:
    """Return a W64 file whose format tag says what its samples are.

    Where the tag is ``EXTENSIBLE``, that stands behind it, and libsndfile takes floats for integers.
    """
    format = chunks.get(b"fmt " + W64_ID_TAIL)
    head = window.at(format.start, 26) if format else b""
    if format is None or head[:2] != EXTENSIBLE or head[24:26] in (PCM, b""):
        return link
    behind = Stretch(format.start + 2, link.seek(0, 2))
    return Splice(link, [Stretch(0, format.start), head[24:26], behind])


def _stated_samples(window: Window, chunks: dict[bytes, Chunk], dialect: Dialect) -> int | None:
    """Return how many samples a padded codec's file has without the padding, where it says so."""
    format, fact = (
        next((chunk for id, chunk in chunks.items() if id[:4] == name), None)
        for name in (b"fmt ", b"fact")
    )
    data = chunks[dialect.data]
    if format is None or fact is None or dialect.data[:4] != b"data" or dialect.size == ">Q":
        return None
    order = dialect.size[0]
    head = window.at(format.start, 20)
    if len(head) < 20 or fact.bytes < 4:
        return None
    tag, _, _, _, block = struct.unpack(f"{order}HHIIH", head[:14])
    (samples_per_block,) = struct.unpack(f"{order}H", head[18:20])
    if tag not in PADDED_FORMATS or not block or not samples_per_block:
        return None
    (count,) = struct.unpack(f"{order}I", window.at(fact.start, 4))
    padded = -(-data.bytes // block) * samples_per_block
    # A fact that explains more than the padding of the last block is wrong itself.
    return int(count) if padded - samples_per_block < count <= padded else None
