"""Segments of WAV files read straight into the batch: no buffer between, no copy.

It is for files on this machine that lie as timbre writes them: 44 bytes of header, then the samples.
All else is left to :mod:`timbre.shards.decode`, which also says what is wrong with it.
"""

import os
import sys
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from timbre.audio import Int16Wave
from timbre.shards import Member, PairPlace, draw_cut, pcm_place

HEADER = 44
IS_POSSIBLE = hasattr(os, "preadv") and sys.byteorder == "little"


class Aim(NamedTuple):
    """Where a pair's segment is to lie: ``(sides, samples)`` int16; and what its cut is drawn from."""

    rows: NDArray[np.int16]
    seed: tuple[int, ...]


class StraightRead(NamedTuple):
    """A pair whose segment lies where it was aimed at."""

    place: PairPlace


def read_straight(file: BinaryIO, place: PairPlace, names: Sequence[str], aim: Aim) -> bool:
    """Read the members ``names`` of a pair into the rows of ``aim``; each is checked by its CRC-32.

    Return False, with anything in the rows, where the file does not lie as is expected here, or is
    damaged. What is left of a row behind a short pair becomes silence.

    Raises:
        OSError: the disk.
    """
    if not IS_POSSIBLE:
        return False
    cut = draw_cut(place.entry, aim.rows.shape[1], aim.seed)
    aim.rows[:, cut.samples :] = 0
    return all(
        _read_side(file, place.entry.members[name], cut.start_in(place.entry, name), row)
        for name, row in zip(names, aim.rows[:, : cut.samples], strict=True)
    )


def _read_side(file: BinaryIO, member: Member, start: int, row: Int16Wave) -> bool:
    """Read ``row`` from sample ``start`` of a WAV file on, and what lies around it, to be checked."""
    before = HEADER + start * row.itemsize
    behind = member.length - before - row.nbytes
    if behind < 0:
        return False
    pieces = [np.empty(before, np.uint8).data, row.data, np.empty(behind, np.uint8).data]
    if os.preadv(file.fileno(), pieces, member.offset) != member.length:
        return False
    crc = 0
    for piece in pieces:
        crc = zlib_ng.crc32(piece, crc)
    sound = pcm_place(pieces[0][:HEADER], member.length)
    if sound is None or sound.offset != HEADER or sound.samples < start + len(row):
        return False
    return crc == member.crc32
