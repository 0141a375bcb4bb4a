"""Ours."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.conformance.adapter import Setup
from benchmarks.stream import data
from timbre import shards
from timbre.shards import DataSource, open_corpus
from timbre.stream import PairStream, Place, StreamConfig

PACKAGE = None
LACKS: dict[str, str] = {}
SAMPLES = 480


def write(folder: str, keys: Sequence[Sequence[str]]) -> None:
    """Store a short pair for each key."""
    clean = np.arange(1, SAMPLES + 1, dtype=np.int16)
    entries = [
        data.write_one(
            folder, shards.shard_path("train", number), [(key, clean) for key in own], "wav"
        )
        for number, own in enumerate(keys)
    ]
    data.write_manifest(folder, entries, "wav", SAMPLES / 48_000)


def shard_files(folder: str) -> list[Path]:
    """Return the files that hold the data."""
    return sorted(Path(folder).rglob("*.tar"))


class Ours:
    """A stream of pairs."""

    def __init__(self, setup: Setup) -> None:
        sources = [
            DataSource(os.path.join(folder, "manifest.json"), weight)  # noqa: PTH118 - may be a URL
            for folder, weight in zip(setup.folders, setup.weights, strict=True)
        ]
        config = StreamConfig(SAMPLES, setup.batch, setup.seed, 2, setup.workers)
        corpora = [open_corpus(source, "train") for source in sources]
        self._stream = PairStream(corpora, config, Place(setup.rank, setup.world))
        if setup.state is not None:
            self._stream.load_state_dict(setup.state)

    def __iter__(self) -> Iterator[list[str]]:
        """Yield keys."""
        return (batch.keys for batch in self._stream)

    def state(self) -> Any:
        """Return the stream's state."""
        return self._stream.state_dict()

    def noticed(self) -> int:
        """Return how many pairs were replaced."""
        return self._stream.replaced


open_loader = Ours
