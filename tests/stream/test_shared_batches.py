"""Memory for batches is used again: never while anybody looks at it, always afterwards."""

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.help.made_shards import make_shards
from timbre.shards.corpus import DataSource, open_corpus
from timbre.stream import PairStream, StreamConfig
from timbre.stream.shared_batches import SLOTS, RowPool, Shape

SHAPE = Shape(sides=2, pairs=3, samples=100)


def fill(pool: RowPool, worker: int, value: int) -> list[torch.Tensor] | None:
    """Fill a place as a reading process does, and read it as its parent does."""
    loan = pool.take(worker)
    if loan is None:
        return None
    place = pool.place(loan)
    for side in range(SHAPE.sides):
        for row in range(SHAPE.pairs):
            place[side, row] = np.full(100, value + 10 * side + row, np.int16)
    return list(pool.tensors(loan))


def test_what_is_written_is_read() -> None:
    sides = fill(RowPool(2, SHAPE), 1, 5)
    assert sides is not None and [side.shape for side in sides] == [(3, 100), (3, 100)]
    for number, side in enumerate(sides):
        for row in range(3):
            assert side[row].eq(5 + 10 * number + row).all()


def test_a_place_is_lent_again_when_nothing_shows_it_any_more() -> None:
    pool = RowPool(1, SHAPE)
    rows = [fill(pool, 0, 100 * number) for number in range(SLOTS)]
    assert fill(pool, 0, 0) is None
    first = rows[0]
    assert first is not None
    view = first[1][2, 50:60]  # any view counts
    del first
    rows[0] = None
    assert fill(pool, 0, 0) is None and view.eq(12).all()
    del view
    again = fill(pool, 0, 7)
    assert again is not None and again[0][0, 0] == 7
    for number, sides in list(enumerate(rows))[1:]:
        assert sides is not None and sides[0][0].eq(100 * number).all()


def test_processes_have_places_of_their_own() -> None:
    pool = RowPool(2, SHAPE)
    rows = [fill(pool, 0, number) for number in range(SLOTS)]
    other = fill(pool, 1, 50)
    assert None not in rows and other is not None and other[0][0, 0] == 50


def test_tensors_outlive_their_pool_and_then_its_files_are_closed() -> None:
    before = open_files()
    pool = RowPool(3, SHAPE)
    new_files = open_files() - before
    assert len(new_files) == 6  # three files in memory, three pipes
    sides = fill(pool, 2, 1)
    del pool
    gc.collect()
    assert sides is not None and sides[0][0, 0] == 1
    assert new_files <= open_files()
    del sides
    gc.collect()
    assert not new_files & open_files()


def open_files() -> set[tuple[int, int]]:
    """Return the files that this process has open. Numbers alone would count what others close."""
    numbers = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    files = set()
    for number in numbers:
        with suppress(OSError):  # the listing's own is closed by now
            status = os.fstat(number)
            files.add((status.st_dev, status.st_ino))
    return files


def test_a_forked_child_that_lets_go_frees_nothing_of_its_parents() -> None:
    pool = RowPool(1, SHAPE)
    rows = [fill(pool, 0, number) for number in range(SLOTS)]
    child = os.fork()
    if child == 0:
        rows.clear()
        os._exit(0)
    os.waitpid(child, 0)
    assert fill(pool, 0, 0) is None and len(rows) == SLOTS


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[PairStream]:
    url = make_shards(tmp_path, [30, 30], seconds=0.1)
    corpora = [open_corpus(DataSource(url), "train")]
    yield PairStream(corpora, StreamConfig(2400, 4, 0, 2, 2))


def test_a_caller_who_keeps_every_batch_keeps_what_it_was_given(stream: PairStream) -> None:
    state = stream.state_dict()
    count = 4 * SLOTS
    batches = list(islice(stream, count))
    stream.load_state_dict(state)
    for before, after in zip(batches, islice(stream, count), strict=True):
        assert before.keys == after.keys
        assert before.clean.equal(after.clean) and before.degraded.equal(after.degraded)


def test_a_caller_who_lets_go_is_served_from_the_same_memory(stream: PairStream) -> None:
    places = {batch.degraded.data_ptr() for batch in islice(stream, 20 * SLOTS)}
    assert len(places) <= 2 * SLOTS
