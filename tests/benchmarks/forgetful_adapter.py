"""An adapter of a loader that keeps its promises but one: it begins anew, whatever state it is given."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.conformance.adapter import Setup

PACKAGE = None
LACKS = {"elastic": "nobody asked for it"}


def write(folder: str, keys: Sequence[Sequence[str]]) -> None:
    """Store the keys as JSON."""
    Path(folder).mkdir(parents=True)
    Path(folder, "keys.json").write_text(json.dumps(keys))


class Forgetful:
    """A list, shuffled anew each epoch."""

    def __init__(self, setup: Setup) -> None:
        stored = [json.loads(Path(folder, "keys.json").read_text()) for folder in setup.folders]
        self._keys = [key for shards in stored for shard in shards for key in shard]
        self._setup = setup

    def __iter__(self) -> Iterator[list[str]]:
        """Yield keys."""
        setup, rng = self._setup, random.Random(self._setup.seed)
        while True:
            order = rng.sample(self._keys, len(self._keys))
            for start in range(0, len(order) - setup.batch + 1, setup.batch):
                first = start + setup.rank * setup.own_batch
                yield order[first : first + setup.own_batch]

    def state(self) -> Any:
        """Return something."""
        return {"step": 0}


open_loader = Forgetful
