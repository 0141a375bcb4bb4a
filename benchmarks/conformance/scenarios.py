"""What is asked of every loader. A scenario raises :class:`LoaderError`, or the loader has passed it.

Batches are compared as sets over all ranks: which rank has which item of a step is its own affair.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

# Uneven shards; an epoch of the first corpus has whole batches at every number of ranks used here.
SHARDS = {"a": [13, 7, 20, 8], "b": [12, 12], "c": [16, 8], "one": [48], "uneven": [5, 30, 13]}
BATCH, STEPS = 12, 4
MIX, WEIGHTS, MIX_BATCH = ("a", "b", "c"), (1.0, 2.0, 3.0), 24
# By how much a share of a few hundred items may differ from its weight.
TOLERANCE = 0.1


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


class Bench(Protocol):
    """A loader under test."""

    def serve(
        self,
        steps: int,
        world: int = 1,
        workers: int = 0,
        *,
        states: Sequence[str] | None = None,
        data: Data = ONE_CORPUS,
    ) -> Served:
        """Open it on every rank and take so many batches; LoaderError if it raises or hangs."""

    def rewrite(self, corpus: str, keys: list[list[str]]) -> None:
        """Store another corpus in a corpus's place."""

    def files(self, corpus: str) -> list[Path]:
        """Return the files that hold a corpus."""


class Scenario(NamedTuple):
    """A promise, what a loader must have for it, and how it is tried."""

    name: str
    needs: tuple[str, ...]
    run: Callable[[Bench], None]


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise LoaderError(otherwise)


def _same(one: Sequence[Sequence[str]], other: Sequence[Sequence[str]], what: str) -> None:
    for step, (a, b) in enumerate(zip(one, other, strict=True)):
        _check(sorted(a) == sorted(b), f"{what}: step {step} differs")


def _all_once(served: Served, what: str = "an epoch") -> None:
    keys = served.keys
    _check(
        len(set(keys)) == len(keys) == 48,
        f"{what}: {len(set(keys))} of 48 items, {len(keys)} served",
    )


def epoch(bench: Bench) -> None:
    """An epoch serves every item once."""
    _all_once(bench.serve(STEPS))


def two_epochs(bench: Bench) -> None:
    """Two epochs are different permutations."""
    served = bench.serve(2 * STEPS)
    first, second = served.batches[:STEPS], served.batches[STEPS:]
    _all_once(Served(second, [], 0), "the second epoch")
    _check(first != second, "both epochs have one order")


def seeds(bench: Bench) -> None:
    """The same seed serves the same again, another seed something else."""
    one = bench.serve(STEPS).batches
    _check(bench.serve(STEPS).batches == one, "the same seed served something else")
    _check(bench.serve(STEPS, data=Data(seed=2)).batches != one, "another seed served the same")


def ranks_share(bench: Bench) -> None:
    """Ranks and workers share an epoch without overlap."""
    _all_once(bench.serve(STEPS, 2, 2), "2 ranks x 2 workers")


def fewer_shards(bench: Bench) -> None:
    """Fewer shards than workers: everybody is served, nothing twice."""
    _all_once(bench.serve(STEPS, 1, 4, data=Data(("one",))), "1 shard, 4 workers")


def uneven_shards(bench: Bench) -> None:
    """Shards of uneven size give all ranks as many whole batches."""
    served = bench.serve(2 * STEPS, 2, 2, data=Data(("uneven",)))
    _check(all(len(batch) == BATCH for batch in served.batches), "a batch is not whole")
    _all_once(Served(served.batches[:STEPS], [], 0), "3 uneven shards, 2 x 2")


def any_topology(bench: Bench) -> None:
    """Global batches do not depend on ranks and workers."""
    whole = bench.serve(6).batches
    for world, workers in ((1, 2), (2, 1), (3, 2), (6, 0)):
        _same(bench.serve(6, world, workers).batches, whole, f"{world} ranks x {workers} workers")


def _resume(bench: Bench, at: int, before: tuple[int, int], after: tuple[int, int]) -> None:
    whole = bench.serve(10, *before).batches
    states = bench.serve(at, *before).states
    rest = bench.serve(10 - at, *after, states=states).batches
    _same(rest, whole[at:], f"saved at step {at} by {before}, restored at {after} (ranks, workers)")


def resume(bench: Bench) -> None:
    """A resume in the middle is exact, with batches under way in workers."""
    _resume(bench, 3, (2, 2), (2, 2))


def resume_at_edges(bench: Bench) -> None:
    """A resume is exact at the last step of an epoch, and right behind the first."""
    for at in (STEPS, STEPS + 1, 1):
        _resume(bench, at, (1, 1), (1, 1))


def resume_twice(bench: Bench) -> None:
    """Resuming twice within an epoch is exact."""
    whole = bench.serve(4).batches
    first = bench.serve(1)
    second = bench.serve(1, states=first.states)
    third = bench.serve(2, states=second.states)
    _same(first.batches + second.batches + third.batches, whole, "three parts of an epoch")


def other_workers(bench: Bench) -> None:
    """A resume with other numbers of workers is exact."""
    for after in ((1, 0), (1, 4)):
        _resume(bench, 3, (1, 2), after)


def other_ranks(bench: Bench) -> None:
    """A resume at other numbers of ranks is exact."""
    for after in ((1, 0), (2, 1), (6, 0)):
        _resume(bench, 3, (4, 1), after)


def mix(bench: Bench) -> None:
    """A mix of three corpora keeps its weights."""
    count = Counter(key[0] for key in bench.serve(20, data=MIXED).keys)
    total = sum(count.values())
    for name, weight in zip(MIX, WEIGHTS, strict=True):
        share, asked = count[name] / total, weight / sum(WEIGHTS)
        _check(
            abs(share - asked) < TOLERANCE,
            f"{name}: {share:.0%} of the items, asked for {asked:.0%}",
        )


def mix_elastic(bench: Bench) -> None:
    """A mix that was saved at 4 ranks x 3 workers goes on exactly at others."""
    whole = bench.serve(8, 4, 3, data=MIXED).batches
    states = bench.serve(5, 4, 3, data=MIXED).states
    for world, workers in ((1, 0), (1, 4), (2, 1), (8, 0), (8, 1)):
        rest = bench.serve(3, world, workers, states=states, data=MIXED).batches
        _same(rest, whole[5:], f"restored at {world} ranks x {workers} workers")


def cut_file(bench: Bench) -> None:
    """A file that breaks off is noticed."""
    file = bench.files("a")[-1]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _noticed(bench, "the file ends in its middle")


def flipped_bit(bench: Bench) -> None:
    """A flipped bit is noticed."""
    _flip(bench)
    _noticed(bench, "a bit is not what it was")


def bad_item(bench: Bench) -> None:
    """A bad item is replaced and told, and every step is whole."""
    _flip(bench)
    served = bench.serve(STEPS)
    _check(served.noticed > 0, "nobody told")
    _check(all(len(batch) == BATCH for batch in served.batches), "a batch is not whole")


def changed_data(bench: Bench) -> None:
    """A resume on data that were changed since is refused."""
    states = bench.serve(2).states
    bench.rewrite("a", [[f"a-9{i:03d}" for i in range(48)]])
    try:
        bench.serve(2, states=states)
    except LoaderError:
        return
    raise LoaderError("it went on, with other data")


def _flip(bench: Bench) -> None:
    """Flip a bit of the content of an item."""
    file = bench.files("a")[0]
    data = bytearray(file.read_bytes())
    at = data.find(b"a-00-") if b"RIFF" not in data else data.find(b"RIFF") + 100
    data[at + 1] ^= 1
    file.write_bytes(data)


def _noticed(bench: Bench, what: str) -> None:
    try:
        served = bench.serve(STEPS)
    except LoaderError:
        return
    _check(
        served.noticed > 0,
        f"{what}, and it served {len(set(served.keys))} items as if nothing were",
    )


SCENARIOS = [
    Scenario(run.__doc__.rstrip(".") if run.__doc__ else "", needs, run)
    for needs, run in (
        ((), epoch),
        ((), two_epochs),
        ((), seeds),
        ((), ranks_share),
        ((), fewer_shards),
        ((), uneven_shards),
        (("elastic",), any_topology),
        (("resume",), resume),
        (("resume",), resume_at_edges),
        (("resume",), resume_twice),
        (("resume", "elastic"), other_workers),
        (("resume", "elastic"), other_ranks),
        ((), mix),
        (("resume", "elastic"), mix_elastic),
        ((), cut_file),
        (("checked bytes",), flipped_bit),
        (("checked bytes", "bad items"), bad_item),
        (("resume", "changed data"), changed_data),
    )
]
