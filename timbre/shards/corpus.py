"""One split of one manifest, and its weight in a mix."""

from typing import NamedTuple

from pydantic.dataclasses import dataclass

from timbre import storage
from timbre.config import STRICT, Name, Positive
from timbre.errors import ShardError
from timbre.shards import foreign
from timbre.shards.manifest import denoisers_of, folder_of, manifest_url
from timbre.shards.records import ShardEntry, to_json


@dataclass(config=STRICT)
class DataSource:
    """One set of shards to train on, and its share of every epoch relative to the others."""

    manifest: Name
    weight: Positive = 1.0


class Corpus(NamedTuple):
    """The shards of one split of one manifest; the indexes lie beside the tars, or elsewhere.

    ``denoisers`` are those whose output the pairs hold; none where the manifest does not say.
    """

    folder: str
    index_folder: str
    shards: tuple[ShardEntry, ...]
    weight: float
    manifest_sha256: str
    save_segment_seconds: float
    denoisers: tuple[str, ...] = ()

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return sum(shard.pairs for shard in self.shards)


def open_corpus(source: DataSource, split: str) -> Corpus:
    """Return the shards of a split; a folder of foreign tars gets its manifest on the way.

    Raises:
        FileNotFoundError: there is no manifest, and no tar.
        ShardError: it is damaged, or has no such split.
    """
    manifest, index_folder = foreign.open_or_adopt(source.manifest)
    try:
        entries = manifest.shards(split)
    except ShardError as error:
        raise ShardError(f"{manifest_url(source.manifest)}: {error}") from None
    return Corpus(
        folder_of(source.manifest),
        index_folder,
        entries,
        source.weight,
        storage.sha256(to_json(manifest)),
        manifest.save_segment_seconds,
        denoisers_of(manifest),
    )
