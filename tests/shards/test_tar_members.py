"""Tars that lie: each is refused by name, in little time and memory, and nothing of it is lost."""

import io
import tarfile
from collections.abc import Callable

import pytest

from timbre.errors import ShardError
from timbre.shards import index_tar
from timbre.shards.tar_members import TAR_BLOCK, TarFile, tar_files


def header(name: str, size: bytes = b"00000000000\0", kind: bytes = b"0") -> bytes:
    """A header whose size field is what it is told, with a right checksum."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT)[:TAR_BLOCK])
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def whole(*parts: bytes) -> bytes:
    return b"".join(part + bytes(-len(part) % TAR_BLOCK) for part in parts) + bytes(2 * TAR_BLOCK)


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    return header("x", octal(len(records)), kind) + records + bytes(-len(records) % TAR_BLOCK)


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    digits = len(str(length))
    digits = len(str(length + digits))
    return b"%d %s=%s\n" % (length + digits, key, value)


MINUS_ONE_KB = b"\xff" * 10 + (2**16 - 1024).to_bytes(2, "big")
LIES: dict[str, tuple[bytes, str]] = {
    "a negative size": (whole(header("a.wav", MINUS_ONE_KB)), "a.wav has -1024 bytes"),
    "a size of 2^70": (whole(header("a.wav", b"\x80\0\0" + b"\x40" + bytes(8))), "not a whole tar"),
    "a size beyond the end": (whole(header("a.wav", octal(10**9))), "has 1000000000 bytes at 512"),
    "a size of 1e30 in words": (
        whole(pax(record(b"size", b"1" + b"0" * 30)), header("a.wav")),
        "extended header at 512 says size 1000",
    ),
    "a size that is no number": (
        whole(pax(record(b"size", b"-1")), header("a.wav")),
        "extended header at 512 says size -1",
    ),
    "an extended header of a gigabyte": (
        header("x", octal(2**30), b"x") + bytes(2**20),
        "not a whole tar",
    ),
    "a long extended header": (
        whole(header("x", octal(2**20 + 512), b"x") + bytes(2**20 + 512)),
        "an extended header of 1049088 bytes",
    ),
    "a record longer than its header": (whole(pax(b"999 path=a\n")), "damaged extended header"),
    "a record of no length": (whole(pax(b"0 path=a\n")), "damaged extended header"),
    "a name that is no UTF-8": (whole(pax(record(b"path", b"\xff.wav"))), "is not UTF-8"),
    "a sparse file": (
        whole(pax(record(b"GNU.sparse.major", b"1")), header("a.wav")),
        "a.wav: a sparse file",
    ),
    "a hard link": (whole(header("k/a.clean.wav", kind=b"1")), "k/a.clean.wav: a link"),
    "a symbolic link": (whole(header("a.pair.json", kind=b"2")), "a.pair.json: a link"),
    "an old sparse file": (whole(header("a.wav", kind=b"S")), "a.wav: a sparse file"),
    "two tars in one": (whole(header("a.wav")) + whole(header("b.wav")), "behind the end mark at"),
    "a wrong checksum": (whole(header("a.wav").replace(b"a.wav", b"b.wav")), "bad checksum at 0"),
    "no end mark": (header("a.wav"), "not a whole tar"),
    "half an end mark": (header("a.wav") + bytes(TAR_BLOCK), "no end-of-archive mark"),
    "nothing": (b"", "not a whole tar"),
}


@pytest.mark.parametrize("kind", LIES)
def test_a_tar_that_lies_is_refused_by_name(kind: str) -> None:
    data, message = LIES[kind]
    with pytest.raises(ShardError, match=rf"^lies\.tar: .*{message}"):
        list(tar_files(data, "lies.tar"))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_are_those_of_the_standard_library(format: int) -> None:
    names = ["a.wav", "d/b.c.wav", "long/" * 18 + "x.wav"]
    names += [] if format == tarfile.USTAR_FORMAT else ["n" * 200 + ".wav", "\u00fc\u5bb6.wav"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        folder = tarfile.TarInfo("d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 500 * number, 1.25 if format == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(bytes(info.size)))
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.SYMTYPE, "l" * 80
        tar.addfile(link)
    data = buffer.getvalue()  # padded to a record of 10 kB
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [TarFile(i.name, i.offset_data, i.size) for i in tar if i.isfile()]
    assert len(expected) == len(names)
    assert list(tar_files(data, "")) == expected


def test_of_many_members_without_a_pair_the_first_ends_it() -> None:
    class CountingBytes(bytes):
        bytes_read = 0

        def __getitem__(self, key: object) -> bytes:  # type: ignore[override]
            CountingBytes.bytes_read += 1
            return super().__getitem__(key)  # type: ignore[index,return-value]

    many = b"".join(header(f"{number:04d}.clean.wav") for number in range(2000))
    with pytest.raises(ShardError, match=r"0000: no member degraded, pair\.json"):
        index_tar(CountingBytes(whole(many)), "many.tar")
    assert CountingBytes.bytes_read < 20


def pair(key: str, number: int = 1) -> bytes:
    meta = b'{"alignment_offset": 0, "samples": 5}'
    parts = [("clean.wav", b"c" * number), ("degraded.wav", b"d"), ("pair.json", meta)]
    return b"".join(
        header(f"{key}.{name}", octal(len(data))) + data + bytes(-len(data) % TAR_BLOCK)
        for name, data in parts
    )


TWICE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a pair": (lambda: whole(pair("a") + pair("a", 2)), "a.clean.wav stands twice"),
    "a pair, later": (lambda: whole(pair("a") + pair("b") + pair("a")), "'a' do not lie together"),
    "a dotted key": (
        lambda: whole(pair("take.1") + pair("take.2")),
        "take.1.clean.wav: a key ends at the first dot",
    ),
}


@pytest.mark.parametrize("kind", TWICE)
def test_a_key_that_would_be_served_wrong_is_refused_by_name(kind: str) -> None:
    data, message = TWICE[kind]
    with pytest.raises(ShardError, match=rf"^a\.tar: .*{message}"):
        index_tar(data(), "a.tar")


def test_what_macos_lays_beside_is_passed_over() -> None:
    beside = header("._a.clean.wav", octal(3)) + b"mac" + bytes(TAR_BLOCK - 3)
    other = header("__MACOSX/b.clean.wav", octal(3)) + b"mac" + bytes(TAR_BLOCK - 3)
    index = index_tar(whole(beside + pair("a") + other + pair("b")), "a.tar")
    assert [entry.key for entry in index.pairs] == ["a", "b"]
