"""Sized epochs on a device: their batches, their state, and no use of ``prepare``."""

import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from tests.help.made_shards import make_shards
from timbre.shards.corpus import DataSource, open_corpus
from timbre.stream import PairStream, StreamConfig
from timbre.stream.batches import PairBatch
from timbre.stream.device_loader import DeviceLoader

STEPS = 5


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_shards(tmp_path_factory.mktemp("shards"), [7, 5, 9, 4, 6])  # 5 batches of 6


def stream(url: str, workers: int = 0) -> PairStream:
    config = StreamConfig(4800, 6, 3, 2, workers)
    return PairStream([open_corpus(DataSource(url), "train")], config)


def cpu() -> Accelerator:
    return Accelerator(cpu=True)


def keys(batches: Iterator[PairBatch], count: int | None = None) -> list[list[str]]:
    return [batch.keys for batch in islice(batches, count)]


def test_a_loop_is_an_epoch_and_its_length_is_told(url: str) -> None:
    expected = keys(iter(stream(url)), 3 * STEPS)
    loader = DeviceLoader(stream(url), cpu())
    assert len(loader) == STEPS
    assert keys(iter(loader)) == expected[:STEPS]
    assert (loader.stream.epoch, loader.stream.sample_in_epoch, len(loader)) == (0, 30, STEPS)
    assert keys(iter(loader), 2) == expected[STEPS : STEPS + 2]
    assert len(loader) == 3
    assert keys(iter(loader)) == expected[STEPS + 2 : 2 * STEPS]
    assert keys(iter(loader)) == expected[2 * STEPS :]


def test_reading_processes_live_from_epoch_to_epoch_and_end_with_it(url: str) -> None:
    loader = DeviceLoader(stream(url, workers=2), cpu())
    before = set(multiprocessing.active_children())
    processes = set()
    for _ in range(3):
        for _ in loader:
            processes |= set(multiprocessing.active_children()) - before
    assert len(processes) == 2
    loader.close()
    assert not any(process.is_alive() for process in processes)
    assert len(keys(iter(loader))) == STEPS  # and anew


def test_its_processes_end_when_nobody_holds_it(url: str) -> None:
    before = set(multiprocessing.active_children())
    accelerator = cpu()
    loader = DeviceLoader(stream(url, workers=1), accelerator)
    keys(iter(loader), 1)
    (process,) = set(multiprocessing.active_children()) - before
    del loader, accelerator
    process.join(30)
    assert not process.is_alive()


def test_a_program_that_holds_it_to_its_end_ends(url: str) -> None:
    """Its processes ignore SIGTERM, which is how the parent would end them."""
    program = (
        "from tests.stream.test_device_loader import *\n"
        f"loader = DeviceLoader(stream({url!r}, workers=2), cpu())\n"
        "batches = iter(loader)\n"
        "print(len(next(batches).keys))\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert process.stdout == "6\n"


@pytest.mark.parametrize("step", [0, 2, STEPS, STEPS + 3])
def test_accelerate_saves_and_loads_the_place_that_was_used(
    url: str, tmp_path: Path, step: int
) -> None:
    """The processes have read ahead of it; the checkpoint is of what the caller was given."""
    expected = keys(iter(stream(url)), 2 * STEPS)
    accelerator = cpu()
    loader = DeviceLoader(stream(url, workers=2), accelerator)
    first_keys: list[list[str]] = []
    while len(first_keys) < step:
        first_keys += keys(iter(loader), step - len(first_keys))
    accelerator.save_state(str(tmp_path))
    keys(iter(loader))  # goes on, which the checkpoint does not see
    accelerator.load_state(str(tmp_path))
    later_keys: list[list[str]] = []
    while len(first_keys) + len(later_keys) < 2 * STEPS:
        later_keys += keys(iter(loader), 2 * STEPS - len(first_keys) - len(later_keys))
    assert first_keys + later_keys == expected
    loader.close()


def test_waiting_is_counted(url: str) -> None:
    loader = DeviceLoader(stream(url), cpu())
    keys(iter(loader), 1)
    first = loader.waited_seconds
    assert first > 0
    keys(iter(loader), 1)
    assert loader.waited_seconds > first


@pytest.mark.gpu
def test_batches_are_copied_to_the_device_unchanged_and_without_a_sync(url: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    expected = list(islice(stream(url), 2 * STEPS))
    loader = DeviceLoader(stream(url, workers=2), Accelerator())
    batches = list(islice(loader, 1))
    torch.cuda.set_sync_debug_mode("error")
    try:
        while len(batches) < 2 * STEPS:
            batches += list(islice(loader, 2 * STEPS - len(batches)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for here, there in zip(expected, batches, strict=True):
        assert there.degraded.is_cuda and there.bandwidth_hz.is_cuda
        assert here.degraded.equal(there.degraded.cpu()) and here.clean.equal(there.clean.cpu())
        assert here.keys == there.keys
    loader.close()


def test_the_loop_in_the_readme_runs_as_it_is_written(tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", [70], seconds=2.0)
    text = (Path(__file__).parents[2] / "docs/training.md").read_text()
    code = text.partition("In your own trainer:\n\n```python\n")[2].partition("```")[0]
    assert "for batch in loader" in code
    print_shapes = "\nprint(len(batch.keys), tuple(batch.clean.shape), batch.clean.dtype)\n"
    process = subprocess.run(
        [sys.executable, "-c", code + print_shapes],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.stdout == "64 (64, 96000) torch.int16\n", process.stderr
