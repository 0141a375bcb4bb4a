"""Where the manifest and the indexes of a folder of shards lie, and reading them."""

from timbre import storage
from timbre.audio import SAMPLE_RATE
from timbre.errors import ShardError
from timbre.shards.records import SCHEMA, Manifest, ShardEntry, ShardIndex, from_json

MANIFEST_NAME = "manifest.json"


def shard_path(split: str, number: int) -> str:
    """Return a shard's path relative to the manifest."""
    return f"{split}/shard-{number:06d}.tar"


def index_path(tar_path: str) -> str:
    """Return the path of a shard's index."""
    return tar_path.removesuffix(".tar") + ".index"


def load_manifest(url: str) -> Manifest:
    """Return the manifest at ``url``, a file or the folder that holds ``manifest.json``.

    Raises:
        FileNotFoundError: there is none.
        ShardError: it is not a manifest of this schema.
    """
    manifest = from_json(Manifest, storage.read(manifest_url(url)), manifest_url(url))
    for name, expected in [("schema", SCHEMA), ("sample_rate", SAMPLE_RATE)]:
        if (found := getattr(manifest, name)) != expected:
            raise ShardError(f"{url}: {name} {found}, expected {expected}")
    return manifest


def manifest_url(url: str) -> str:
    """Return the manifest's own URL for a manifest or the folder that holds it."""
    return url if url.endswith(".json") else storage.join(url, MANIFEST_NAME)


def folder_of(url: str) -> str:
    """Return the folder that a manifest's shard paths are relative to."""
    return manifest_url(url).rpartition("/")[0] or "."


def load_index(folder: str, shard: ShardEntry) -> ShardIndex:
    """Return a shard's index, checked against the hash in the manifest.

    Raises:
        FileNotFoundError: there is none.
        ShardError: it is not the one that the manifest was written with.
    """
    url = storage.join(folder, index_path(shard.path))
    return parse_index(storage.read(url), shard, url)


def parse_index(data: bytes, shard: ShardEntry, url: str) -> ShardIndex:
    """Return the index in ``data``; ShardError if it is not the manifest's, naming ``url``."""
    if (found := storage.sha256(data)) != shard.index_sha256:
        raise ShardError(f"{url}: sha256 {found}, but the manifest says {shard.index_sha256}")
    return from_json(ShardIndex, data, url)
