"""Segments read straight into the batch equal decoded ones, and no damage passes."""

import io
import tarfile
import wave
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.help.made_shards import make_shards, publish_tar
from timbre import shards, storage
from timbre.shards import (
    SIDES,
    DataSource,
    PairBytes,
    PairPlace,
    cut_segment,
    open_corpus,
    read_members,
    side_names,
)
from timbre.stream import PairStream, StreamConfig
from timbre.stream.straight import Aim, read_straight

SAMPLES = 12_000  # of the first pair that `make_shards` writes; the next have a few more


def places(url: str) -> list[PairPlace]:
    folder, shard = shards.folder_of(url), shards.load_manifest(url).shards("train")[0]
    return [PairPlace(folder, shard, entry) for entry in shards.load_index(folder, shard).pairs]


def land(place: PairPlace, segment: int, number: int) -> np.ndarray | None:  # type: ignore[type-arg]
    aim = Aim(np.full((2, segment), 77, np.int16), (3, 0, number))
    with Path(place.url).open("rb") as file:
        return aim.rows if read_straight(file, place, side_names(place, SIDES), aim) else None


@pytest.mark.parametrize("segment", [1, 4800, SAMPLES - 300, SAMPLES + 1000])
def test_what_lands_is_what_is_decoded_with_silence_behind_a_short_pair(
    tmp_path: Path, segment: int
) -> None:
    for number, place in enumerate(places(make_shards(tmp_path, [8]))):
        names = side_names(place, SIDES)
        members = tuple(read_members(place.url, place.entry, names))
        expected = cut_segment(PairBytes(place, names, members), segment, (3, 0, number))
        rows = land(place, segment, number)
        assert rows is not None
        for row, side in zip(rows, expected, strict=True):
            np.testing.assert_array_equal(row[: len(side)], side)
            assert not row[len(side) :].any()


def test_no_damage_lands_wherever_it_is(tmp_path: Path) -> None:
    place = places(make_shards(tmp_path, [1]))[0]
    tar = Path(place.url)
    whole = tar.read_bytes()
    offset, length, _ = place.entry.members["clean.wav"]
    for at in (0, 22, 43, 44, 5000, length - 1):
        content = bytearray(whole)
        content[offset + at] ^= 1
        tar.write_bytes(content)
        assert land(place, 4800, 0) is None, at
    tar.write_bytes(whole[: offset + length // 2])
    assert land(place, 4800, 0) is None


def other_wave(data: bytes, extra: bytes) -> bytes:
    """The same samples in a WAV file with one more chunk before them."""
    out = io.BytesIO()
    with wave.open(io.BytesIO(data)) as source, wave.open(out, "wb") as file:
        file.setparams(source.getparams())
        file.writeframes(source.readframes(source.getnframes()))
    plain = out.getvalue()
    return (
        plain[:4]
        + (len(plain) + len(extra) - 8).to_bytes(4, "little")
        + plain[8:36]
        + extra
        + plain[36:]
    )


def test_a_wave_that_lies_otherwise_is_served_all_the_same(tmp_path: Path) -> None:
    """ffmpeg writes such files: its name stands before the samples."""
    url = make_shards(tmp_path, [6])
    expected = list(islice(stream_of(url), 6))
    folder, shard = shards.folder_of(url), shards.load_manifest(url).shards("train")[0]
    path = storage.join(folder, shard.path)
    publish_tar(url, shard.path, rewritten(storage.read(path), b"LIST\4\0\0\0INFO"))
    for before, after in zip(expected, stream_of(url), strict=False):
        assert before.keys == after.keys and not after.replaced
        assert before.clean.equal(after.clean) and before.degraded.equal(after.degraded)


def stream_of(url: str) -> PairStream:
    return PairStream([open_corpus(DataSource(url), "train")], StreamConfig(4800, 2, 3, 2, 0))


def rewritten(tar: bytes, extra: bytes) -> bytes:
    """The tar with every WAV file as :func:`other_wave`."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(tar)) as source,
        tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as target,
    ):
        for info in source:
            file = source.extractfile(info)
            assert file is not None
            data = file.read()
            if info.name.endswith(".wav"):
                data = other_wave(data, extra)
            info.size = len(data)
            target.addfile(info, io.BytesIO(data))
    return out.getvalue()
