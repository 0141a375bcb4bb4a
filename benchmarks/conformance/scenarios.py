"""What is asked of every loader. A scenario raises :class:`LoaderError`, or the loader has passed it.

Batches are compared as sets over all ranks: which rank has which item of a step is its own affair.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.conformance.loader_process import (
    BATCH,
    MIX,
    MIXED,
    STEPS,
    WEIGHTS,
    Data,
    LoaderError,
    LoaderProcess,
    Served,
)

# By how much a share of a few hundred items may differ from its weight.
TOLERANCE = 0.1


class Scenario(NamedTuple):
    """A promise, what a loader must have for it, and how it is tried."""

    name: str
    needs: tuple[str, ...]
    run: Callable[[LoaderProcess], None]


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


def epoch(loader: LoaderProcess) -> None:
    """An epoch serves every item once."""
    _all_once(loader.serve(STEPS))


def two_epochs(loader: LoaderProcess) -> None:
    """Two epochs are different permutations."""
    served = loader.serve(2 * STEPS)
    first, second = served.batches[:STEPS], served.batches[STEPS:]
    _all_once(Served(second, [], 0), "the second epoch")
    _check(first != second, "both epochs have one order")


def seeds(loader: LoaderProcess) -> None:
    """The same seed serves the same again, another seed something else."""
    one = loader.serve(STEPS).batches
    _check(loader.serve(STEPS).batches == one, "the same seed served something else")
    _check(loader.serve(STEPS, data=Data(seed=2)).batches != one, "another seed served the same")


def ranks_share(loader: LoaderProcess) -> None:
    """Ranks and workers share an epoch without overlap."""
    _all_once(loader.serve(STEPS, 2, 2), "2 ranks x 2 workers")


def fewer_shards(loader: LoaderProcess) -> None:
    """Fewer shards than workers: everybody is served, nothing twice."""
    _all_once(loader.serve(STEPS, 1, 4, data=Data(("one",))), "1 shard, 4 workers")


def uneven_shards(loader: LoaderProcess) -> None:
    """Shards of uneven size give all ranks as many whole batches."""
    served = loader.serve(2 * STEPS, 2, 2, data=Data(("uneven",)))
    _check(all(len(batch) == BATCH for batch in served.batches), "a batch is not whole")
    _all_once(Served(served.batches[:STEPS], [], 0), "3 uneven shards, 2 x 2")


def any_topology(loader: LoaderProcess) -> None:
    """Global batches do not depend on ranks and workers."""
    whole = loader.serve(6).batches
    for world, workers in ((1, 2), (2, 1), (3, 2), (6, 0)):
        _same(loader.serve(6, world, workers).batches, whole, f"{world} ranks x {workers} workers")


def _resume(
    loader: LoaderProcess, at: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    whole = loader.serve(10, *before).batches
    states = loader.serve(at, *before).states
    rest = loader.serve(10 - at, *after, states=states).batches
    _same(rest, whole[at:], f"saved at step {at} by {before}, restored at {after} (ranks, workers)")


def resume(loader: LoaderProcess) -> None:
    """A resume in the middle is exact, with batches under way in workers."""
    _resume(loader, 3, (2, 2), (2, 2))


def resume_at_edges(loader: LoaderProcess) -> None:
    """A resume is exact at the last step of an epoch, and right behind the first."""
    for at in (STEPS, STEPS + 1, 1):
        _resume(loader, at, (1, 1), (1, 1))


def resume_twice(loader: LoaderProcess) -> None:
    """Resuming twice within an epoch is exact."""
    whole = loader.serve(4).batches
    first = loader.serve(1)
    second = loader.serve(1, states=first.states)
    third = loader.serve(2, states=second.states)
    _same(first.batches + second.batches + third.batches, whole, "three parts of an epoch")


def other_workers(loader: LoaderProcess) -> None:
    """A resume with other numbers of workers is exact."""
    for after in ((1, 0), (1, 4)):
        _resume(loader, 3, (1, 2), after)


def other_ranks(loader: LoaderProcess) -> None:
    """A resume at other numbers of ranks is exact."""
    for after in ((1, 0), (2, 1), (6, 0)):
        _resume(loader, 3, (4, 1), after)


def mix(loader: LoaderProcess) -> None:
    """A mix of three corpora keeps its weights."""
    count = Counter(key[0] for key in loader.serve(20, data=MIXED).keys)
    total = sum(count.values())
    for name, weight in zip(MIX, WEIGHTS, strict=True):
        share, asked = count[name] / total, weight / sum(WEIGHTS)
        _check(
            abs(share - asked) < TOLERANCE,
            f"{name}: {share:.0%} of the items, asked for {asked:.0%}",
        )


def mix_elastic(loader: LoaderProcess) -> None:
    """A mix that was saved at 4 ranks x 3 workers goes on exactly at others."""
    whole = loader.serve(8, 4, 3, data=MIXED).batches
    states = loader.serve(5, 4, 3, data=MIXED).states
    for world, workers in ((1, 0), (1, 4), (2, 1), (8, 0), (8, 1)):
        rest = loader.serve(3, world, workers, states=states, data=MIXED).batches
        _same(rest, whole[5:], f"restored at {world} ranks x {workers} workers")


def cut_file(loader: LoaderProcess) -> None:
    """A file that breaks off is noticed."""
    file = loader.files("a")[-1]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _noticed(loader, "the file ends in its middle")


def flipped_bit(loader: LoaderProcess) -> None:
    """A flipped bit is noticed."""
    _flip(loader)
    _noticed(loader, "a bit is not what it was")


def bad_item(loader: LoaderProcess) -> None:
    """A bad item is replaced and told, and every step is whole."""
    _flip(loader)
    served = loader.serve(STEPS)
    _check(served.noticed > 0, "nobody told")
    _check(all(len(batch) == BATCH for batch in served.batches), "a batch is not whole")


def changed_data(loader: LoaderProcess) -> None:
    """A resume on data that were changed since is refused."""
    states = loader.serve(2).states
    loader.rewrite("a", [[f"a-9{i:03d}" for i in range(48)]])
    try:
        loader.serve(2, states=states)
    except LoaderError:
        return
    raise LoaderError("it went on, with other data")


def _flip(loader: LoaderProcess) -> None:
    """Flip a bit of the content of an item."""
    file = loader.files("a")[0]
    data = bytearray(file.read_bytes())
    at = data.find(b"a-00-") if b"RIFF" not in data else data.find(b"RIFF") + 100
    data[at + 1] ^= 1
    file.write_bytes(data)


def _noticed(loader: LoaderProcess, what: str) -> None:
    try:
        served = loader.serve(STEPS)
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
