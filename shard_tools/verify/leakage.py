"""What pairs may not share: their name or content with another pair, their origin with another split."""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Literal, NamedTuple

from shard_tools.verify.faults import Fault, PairFacts
from timbre.shards import PairMeta, Source

Origin = Literal["speaker", "recording", "noise", "room"]

# A split of one is no split: `timbre prep` lets both sides hear the only noise or room that an
# edition has, and parts the only speaker's recordings, also when a later edition has more.
MAY_BE_ALONE: tuple[Origin, ...] = ("speaker", "noise", "room")


class Tally(NamedTuple):
    """What the pairs of one split come from, each name with the number of its pairs.

    ``files`` has the path of a recording by the origin and the SHA-256 of its file.
    """

    names: dict[Origin, Counter[str]]
    voices: Counter[str]
    files: dict[tuple[Origin, str], str]


class Leakage(NamedTuple):
    """What is wrong between pairs, and what is allowed but worth knowing."""

    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


class Ledger:
    """Every pair's key, content and origin, as the shards come in.

    600 bytes a pair, 300 where a recording has four variants.
    """

    def __init__(self) -> None:
        self._content: dict[bytes, str] = {}
        self._keys: dict[str, set[str]] = defaultdict(set)
        self._tallies: dict[str, Tally] = defaultdict(
            lambda: Tally(defaultdict(Counter), Counter(), {})
        )
        self._by_plan: dict[tuple[str, Origin], set[str]] = defaultdict(set)

    def add(self, split: str, shard: str, plan: str, pair: PairFacts) -> Iterator[Fault]:
        """Enter a pair of a plan; yield a fault if its key or its content has been here before."""
        key = name = pair.entry.key
        if pair.meta is None:  # other programs count anew in each tar
            name = f"{key} of {shard}"
        elif key in self._keys[split]:
            yield Fault("duplicate", f"its key is in {split} twice", shard, key)
        self._keys[split].add(key)
        content = struct.pack("<4Q", *(n for side in pair.sides for n in (side.crc32, side.length)))
        if (other := self._content.setdefault(content, name)) != name:
            yield Fault("duplicate", f"both its sides are those of {other}", shard, key)
        if pair.meta is None:
            return
        for origin, names in _count(self._tallies[split], pair.meta).items():
            names_of_plan = self._by_plan[plan, origin]
            if len(names_of_plan) < 2:  # two are enough to know that it was not alone
                names_of_plan |= names

    def leaks(self) -> Leakage:
        """Return what is on both sides of each two splits, each name once."""
        faults: list[Fault] = []
        notes: list[str] = []
        for pair_of_splits in combinations(sorted(self._tallies), 2):
            sides = {split: self._tallies[split] for split in pair_of_splits}
            names = _shared_names(sides, self._alone())
            faults += names.faults
            notes += names.notes
            faults += _shared_files(sides)
            faults += _shared_voices(sides)
        return Leakage(tuple(faults), tuple(notes))

    def _alone(self) -> set[tuple[Origin, str]]:
        """Return what may be on both sides, as some plan had nothing else of the kind."""
        return {
            (origin, next(iter(names)))
            for (_, origin), names in self._by_plan.items()
            if origin in MAY_BE_ALONE and len(names) == 1
        }


def _count(tally: Tally, meta: PairMeta) -> dict[Origin, set[str]]:
    """Enter what a pair comes from; return the names of it."""
    # The recordings in a babble are its voices; its own name says nothing.
    noises = [n for n in meta.noises if not (meta.voices and n.path.startswith("babble-"))]
    names: dict[Origin, set[str]] = {
        "speaker": {meta.speaker} - {""},
        "recording": {meta.clean.path},
        "noise": {noise.path for noise in noises},
        "room": {meta.rir} if meta.rir is not None else set(),
    }
    for origin, some in names.items():
        tally.names[origin].update(some)
    tally.voices.update(set(meta.voices))
    sources: list[tuple[Origin, Source]] = [("recording", meta.clean)]
    sources += [("noise", noise) for noise in noises]
    for origin, source in sources:
        if source.sha256:
            tally.files.setdefault((origin, source.sha256), source.path)
    return names


def _shared_names(sides: Mapping[str, Tally], alone: set[tuple[Origin, str]]) -> Leakage:
    faults: list[Fault] = []
    notes: list[str] = []
    (_, one), (_, other) = sides.items()
    for origin in one.names:
        names, other_names = one.names[origin].keys(), other.names[origin].keys()
        for name in sorted(names & other_names):
            counts = {split: tally.names[origin][name] for split, tally in sides.items()}
            message = f"{origin} {name!r} is in {_both(counts)}"
            if (origin, name) in alone:
                notes.append(f"{message}; its plan had no other {origin}")
            else:
                faults.append(Fault("leakage", message))
    return Leakage(tuple(faults), tuple(notes))


def _shared_files(sides: Mapping[str, Tally]) -> Iterator[Fault]:
    """Yield a fault for each file that the sides know by different paths."""
    (one_split, one), (other_split, other) = sides.items()
    for origin, file in sorted(one.files.keys() & other.files.keys()):
        path, other_path = one.files[origin, file], other.files[origin, file]
        if path != other_path:
            counts = {
                split: tally.names[origin][tally.files[origin, file]]
                for split, tally in sides.items()
            }
            yield Fault(
                "leakage",
                f"{origin} {path!r} of {one_split} and {other_path!r} of {other_split} are one file "
                f"by SHA-256, in {_both(counts)}",
            )


def _shared_voices(sides: Mapping[str, Tally]) -> Iterator[Fault]:
    """Yield a fault for each voice of a babble that the other side hears speak, or hears in its own."""
    (one_split, one), (other_split, other) = sides.items()
    for split, tally, target_split, target in [
        (one_split, one, other_split, other),
        (other_split, other, one_split, one),
    ]:
        for voice in sorted(tally.voices):
            pair_count = target.names["recording"][voice]
            if pair_count:
                yield Fault(
                    "leakage",
                    f"voice {voice!r} is in the babble of {_pairs(split, tally.voices[voice])} and "
                    f"speaks in {_pairs(target_split, pair_count)}",
                )
    for voice in sorted(one.voices.keys() & other.voices.keys()):
        counts = {split: tally.voices[voice] for split, tally in sides.items()}
        yield Fault("leakage", f"voice {voice!r} is in the babble of {_both(counts)}")


def _both(counts: Mapping[str, int]) -> str:
    return " and ".join(_pairs(split, count) for split, count in counts.items())


def _pairs(split: str, count: int) -> str:
    return f"{split} ({count} pair{'' if count == 1 else 's'})"
