"""A loader in a process of its own: what it is to serve, and what it served."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.conformance.serve import ANSWER
from benchmarks.stream.case import ROOT

# Uneven shards; an epoch of the first corpus has whole batches at every number of ranks used here.
SHARDS = {"a": [13, 7, 20, 8], "b": [12, 12], "c": [16, 8], "one": [48], "uneven": [5, 30, 13]}
BATCH, STEPS = 12, 4
MIX, WEIGHTS, MIX_BATCH = ("a", "b", "c"), (1.0, 2.0, 3.0), 24


class LoaderError(Exception):
    """What a loader did instead."""


class Served(NamedTuple):
    """The batches of all ranks together, a step each; their states, and what was told of bad items."""

    batches: list[list[str]]
    states: list[str]
    noticed: int

    @property
    def keys(self) -> list[str]:
        """All items in their sequence."""
        return [key for batch in self.batches for key in batch]


class Data(NamedTuple):
    """What is served: corpora by name, in global batches of ``batch``."""

    corpora: tuple[str, ...] = ("a",)
    batch: int = BATCH
    seed: int = 1


ONE_CORPUS, MIXED = Data(), Data(MIX, MIX_BATCH)


class LoaderProcess(AbstractContextManager["LoaderProcess"]):
    """A loader in a process of its own, and its data in a folder."""

    def __init__(self, python: str, module: str, folder: Path, log: Path) -> None:
        self._folder, self._log = folder, log.open("w")
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.conformance.serve", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.communicate("")
        self._log.close()

    def ask(self, do: str, **request: Any) -> Any:
        """Return the answer to a request; LoaderError if the process has died."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(ANSWER):
                return json.loads(line.removeprefix(ANSWER))
        raise LoaderError(f"its process died; see {self._log.name}")

    def prepare(self) -> None:
        """Store all corpora anew."""
        shutil.rmtree(self._folder, ignore_errors=True)
        for name, sizes in SHARDS.items():
            keys = [
                [f"{name}-{shard:02d}-{item:03d}" for item in range(size)]
                for shard, size in enumerate(sizes)
            ]
            self.ask("write", folder=str(self._folder / name), keys=keys)

    def serve(
        self,
        steps: int,
        world: int = 1,
        workers: int = 0,
        *,
        states: Sequence[str] | None = None,
        data: Data = ONE_CORPUS,
    ) -> Served:
        """Return what all ranks are served together."""
        answer = self.ask(
            "serve",
            world=world,
            steps=steps,
            states=states,
            folders=[str(self._folder / name) for name in data.corpora],
            weights=WEIGHTS if data.corpora == MIX else [1.0] * len(data.corpora),
            workers=workers,
            batch=data.batch,
            seed=data.seed,
        )
        if "error" in answer:
            raise LoaderError(f"{world} ranks x {workers} workers: {answer['error']}")
        ranks = answer["ranks"]
        batches = [
            [key for rank in ranks for key in rank["batches"][step]] for step in range(steps)
        ]
        states = [rank["state"] for rank in ranks]
        return Served(batches, states, sum(rank["noticed"] for rank in ranks))

    def rewrite(self, corpus: str, keys: list[list[str]]) -> None:
        """Store another corpus in a corpus's place."""
        shutil.rmtree(self._folder / corpus)
        self.ask("write", folder=str(self._folder / corpus), keys=keys)

    def files(self, corpus: str) -> list[Path]:
        """Return the files that hold a corpus."""
        return [Path(path) for path in self.ask("files", folder=str(self._folder / corpus))]
