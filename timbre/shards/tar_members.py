"""The files in a tar, header by header, however the tar lies.

By hand: the standard library's ``tarfile`` follows sizes that are negative or beyond the end, keeps
every member in memory, reads a sparse file's map as its content, and stops at the first end mark.
"""

import mmap
import re
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from timbre.errors import ShardError

TAR_BLOCK = 512
END = bytes(2 * TAR_BLOCK)
# Of names and extended headers: PATH_MAX is 4096.
MAX_EXTENDED_BYTES = 1 << 20
FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
# Names and sizes that do not fit into a header come in a file of their own before it.
EXTENDED, GLOBAL, LONG_NAME, LONG_LINK = b"x", b"g", b"L", b"K"
SPARSE = "GNU.sparse."
PAX_RECORD = re.compile(rb"([0-9]{1,9}) ([^=]+)=")
# Zeros behind the end mark are looked at in pieces of this size.
PIECE = 1 << 20


class TarFile(NamedTuple):
    """A regular file in a tar: its name, and where its content lies."""

    name: str
    offset: int
    length: int


def tar_files(data: bytes | mmap.mmap, name: str) -> Iterator[TarFile]:
    """Yield the regular files of a tar in their order.

    Raises:
        ShardError: the tar is cut or damaged, says of a file what cannot be, or goes on behind its
            end mark; the message begins with ``name``.
    """
    at, extended = 0, _ExtendedHeader()
    while True:
        block = data[at : at + TAR_BLOCK]
        if block == END[:TAR_BLOCK]:
            _check_end(data, at, name)
            return
        info = _header(block, at, name)
        start = at + TAR_BLOCK
        length = extended.length if extended.length is not None else info.size
        if not 0 <= length <= len(data) - start:
            raise ShardError(
                f"{name}: not a whole tar: {extended.path or info.name} has {length} bytes at {start}, "
                f"but the tar has {len(data)}"
            )
        at = start + length + -length % TAR_BLOCK
        if info.type in (EXTENDED, GLOBAL, LONG_NAME, LONG_LINK):
            extended = extended.with_header(info.type, data, start, length, name)
            continue
        if extended.sparse or info.type == tarfile.GNUTYPE_SPARSE:
            raise ShardError(
                f"{name}: {extended.path or info.name}: a sparse file, expected a plain one"
            )
        path = extended.path or info.name
        # KEY.clean.wav is one of a pair; other links are as good as not there.
        if info.type in LINKS and path.rpartition("/")[2].count(".") > 1:
            raise ShardError(
                f"{name}: {path}: a link, expected the file itself; make the tar with --dereference "
                "--hard-dereference"
            )
        if info.type in FILES and not path.endswith("/"):
            yield TarFile(path, start, length)
        extended = _ExtendedHeader()


class _ExtendedHeader(NamedTuple):
    """What extended headers say of the file that follows."""

    path: str = ""
    length: int | None = None
    sparse: bool = False

    def with_header(
        self, kind: bytes, data: bytes | mmap.mmap, start: int, length: int, name: str
    ) -> "_ExtendedHeader":
        """Return this with what one more extended header says."""
        if length > MAX_EXTENDED_BYTES:
            raise ShardError(
                f"{name}: an extended header of {length} bytes at {start}, expected at most "
                f"{MAX_EXTENDED_BYTES}"
            )
        content = data[start : start + length]
        if kind == LONG_NAME:
            return self._replace(path=_text(content.partition(b"\0")[0], name))
        if kind != EXTENDED:  # what holds for all files, or is a link's aim, is no name and no size
            return self
        path, size, sparse = self
        for key, value in _pax_records(content, start, name):
            if key == "path":
                path = _text(value, name)
            elif key == "size":
                if not re.fullmatch(rb"[0-9]{1,18}", value):
                    text = _text(value[:40], name)
                    raise ShardError(f"{name}: an extended header at {start} says size {text}")
                size = int(value)
            sparse = sparse or key.startswith(SPARSE)
        return _ExtendedHeader(path, size, sparse)


def _header(block: bytes, at: int, name: str) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        raise ShardError(f"{name}: not a whole tar: {error} at {at}") from None
    return info


def _pax_records(content: bytes, start: int, name: str) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(content) and content[at]:
        match = PAX_RECORD.match(content, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content):
            raise ShardError(f"{name}: a damaged extended header at {start}")
        yield match[2].decode("utf-8", "replace"), content[match.end() : end - 1]
        at = end


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ShardError(f"{name}: the name {data[:100]!r} is not UTF-8") from None


def _check_end(data: bytes | mmap.mmap, at: int, name: str) -> None:
    """Raise ShardError unless the tar ends here: two empty blocks, and nothing but zeros behind."""
    if data[at : at + len(END)] != END:
        raise ShardError(f"{name}: breaks off at {at}: no end-of-archive mark")
    for start in range(at, len(data), PIECE):
        piece = data[start : start + PIECE]
        if piece.count(0) != len(piece):
            raise ShardError(
                f"{name}: more bytes behind the end mark at {at}, expected one tar: were several "
                "joined? Unpack them, or join them with tar --concatenate"
            )
