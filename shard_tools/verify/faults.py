"""What can be wrong with shards, and what the check of one shard returns."""

from collections import Counter
from typing import Literal, NamedTuple

from timbre.shards import Member, PairEntry, PairMeta, ShardEntry, ShardIndex

Kind = Literal[
    "missing",
    "unreadable",
    "manifest",
    "index",
    "tar",
    "meta",
    "audio",
    "offset",
    "plan",
    "duplicate",
    "leakage",
]


class Fault(NamedTuple):
    """Something wrong; ``shard`` is relative to the manifest, empty where it is none's own."""

    kind: Kind
    message: str
    shard: str = ""
    pair: str = ""

    def __str__(self) -> str:
        """Return the place and the message."""
        return ": ".join(part for part in (self.shard, self.pair, self.message) if part)


class ShardCheck(NamedTuple):
    """A shard to check; of the pairs numbered in ``offsets`` the offset is measured again.

    ``ours``: the manifest names a plan, so that ``timbre prep`` made its shards.
    """

    folder: str
    split: str
    shard: ShardEntry
    offsets: tuple[int, ...]
    max_offset: int
    ours: bool


class PairFacts(NamedTuple):
    """What a pair may share with others: all of its meta, and the CRC-32 and length of its sides.

    ``meta`` is None in tars of other programs, whose metas need not say more than the offset.
    """

    entry: PairEntry
    sides: tuple[Member, Member]
    meta: PairMeta | None


class IndexSummary(NamedTuple):
    """What one index says of its shard as a whole: its plan, and the pairs refused by reason."""

    plan: str
    refusals: Counter[str]


class ShardResult(NamedTuple):
    """The result of checking one shard; ``summary`` is None where the index cannot be read."""

    check: ShardCheck
    faults: tuple[Fault, ...]
    summary: IndexSummary | None
    pairs: tuple[PairFacts, ...]
    samples: int
    offsets: int


def count_refusals(index: ShardIndex) -> Counter[str]:
    """Return how many pairs of a shard were refused for each reason."""
    return Counter({reason: len(pieces) for reason, pieces in index.rejected.items()})


def member_bytes(data: bytes, entry: PairEntry, member: str) -> bytes:
    """Return the bytes of one member of a pair out of its whole tar."""
    return cut_member(data, entry.members[member])


def cut_member(data: bytes, at: Member) -> bytes:
    """Return the bytes that lie at a member's place in a whole tar."""
    return data[at.offset : at.offset + at.length]
