"""Check every shard and pair of a manifest again; exit 1 and name what is wrong."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from timbre import shards, storage
from timbre.command import command, say
from timbre.errors import ShardError, WorkError
from timbre.shards import PairEntry, PairMeta, ShardEntry

MAX_SHOWN = 50


def verify(manifest_url: str) -> list[str]:
    """Return everything wrong with a manifest's shards, one message each.

    Every tar is read whole and compared with its hash, its index is derived again, and every pair
    is decoded.

    Raises:
        FileNotFoundError, ShardError: there is no manifest, or it is damaged itself.
    """
    manifest = shards.load_manifest(manifest_url)
    folder = shards.folder_of(manifest_url)
    entries = [shard for split in manifest.splits.values() for shard in split]
    faults = [f"{manifest_url}: no shards in it"] if not entries else []
    for shard in tqdm(entries, "verify", unit="shard", disable=None):
        try:
            faults += _shard_faults(folder, shard)
        except (ShardError, OSError) as error:
            faults.append(str(error))
    return faults


def _shard_faults(folder: str, shard: ShardEntry) -> Iterator[str]:
    url = storage.join(folder, shard.path)
    data = storage.read(url)
    if (found := shards.sha256(data)) != shard.sha256:
        yield f"{url}: sha256 {found}, but the manifest says {shard.sha256}"
    derived = shards.index_tar(data, url)
    index = shards.load_index(folder, shard)
    if derived.pairs != index.pairs:
        yield f"{url}: its index does not describe it"
    if len(index.pairs) != shard.pairs:
        yield f"{url}: {len(index.pairs)} pairs, but the manifest says {shard.pairs}"
    for entry in derived.pairs:
        yield from _pair_faults(data, entry, f"{url}: {entry.key}")


def _pair_faults(data: bytes, entry: PairEntry, name: str) -> Iterator[str]:
    members = {m: data[at.offset : at.offset + at.length] for m, at in entry.members.items()}
    meta = shards.from_json(PairMeta, members[shards.META_MEMBER], name)
    if meta.schema != shards.SCHEMA:
        yield f"{name}: schema {meta.schema}, expected {shards.SCHEMA}"
    if meta.key != entry.key:
        yield f"{name}: its meta is that of {meta.key}"
    if abs(entry.alignment_offset) >= entry.samples:
        yield f"{name}: alignment_offset {entry.alignment_offset} of {entry.samples} samples"
    for side in ("clean", "degraded"):
        member = shards.audio_member(members, side)
        try:
            found = shards.count_samples(members[member], f"{name}.{member}")
        except ShardError as error:
            yield str(error)
            continue
        if found != entry.samples:
            yield f"{name}.{member}: {found} samples, but its meta says {entry.samples}"


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Verify ``MANIFEST``."""
    parser = argparse.ArgumentParser("timbre verify", description=__doc__)
    parser.add_argument("manifest", metavar="MANIFEST", help="manifest.json, or its folder")
    url = parser.parse_args(argv).manifest
    if faults := verify(url):
        shown = "\n".join(faults[:MAX_SHOWN])
        raise WorkError(f"{len(faults)} faults in {url}:\n{shown}")
    manifest = shards.load_manifest(url)
    for split, entries in manifest.splits.items():
        say(f"{split}: {sum(e.pairs for e in entries)} pairs in {len(entries)} shards are whole")


if __name__ == "__main__":
    sys.exit(main())
