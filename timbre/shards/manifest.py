"""Where the manifest and the indexes of a folder of shards lie, and reading them."""

from collections import Counter

from timbre import storage
from timbre.audio import SAMPLE_RATE
from timbre.denoiser_names import from_record, kind_of
from timbre.errors import ShardError
from timbre.shards.records import SCHEMA, Manifest, ShardEntry, ShardIndex, from_json

MANIFEST_NAME = "manifest.json"
# Editors of some systems put it in front.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
        ShardError: it is not a manifest of this schema, or ``url`` is a tar.
    """
    path, query = storage.split_query(url)
    if path.endswith(".tar"):
        folder = (path.rpartition("/")[0] or ".") + query
        raise ShardError(f"{url}: a tar, expected a manifest, or the folder of the tars: {folder}")
    data = storage.read(manifest_url(url))
    manifest = from_json(Manifest, data.removeprefix(BYTE_ORDER_MARK), manifest_url(url))
    for name, expected in [("schema", SCHEMA), ("sample_rate", SAMPLE_RATE)]:
        if (value := getattr(manifest, name)) != expected:
            raise ShardError(f"{url}: {name} {value}, expected {expected}")
    paths = Counter(shard.path for shards in manifest.splits.values() for shard in shards)
    if twice := [path for path, count in paths.items() if count > 1]:
        raise ShardError(f"{url}: {twice[0]} is listed twice, expected each shard once")
    return manifest


def denoisers_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the denoisers whose output the pairs hold; none where it does not say."""
    shares, one = manifest.config.get("denoisers"), manifest.config.get("denoiser")
    if isinstance(shares, dict):
        names = list(shares)
    elif isinstance(one, dict) and isinstance(one.get("name"), str):
        names = [one["name"]]
    else:
        return ()
    return tuple(sorted({from_record(kind_of(name)) for name in names}))


def manifest_url(url: str) -> str:
    """Return the manifest's own URL for a manifest or the folder that holds it."""
    is_manifest = storage.split_query(url)[0].endswith(".json")
    return url if is_manifest else storage.join(url, MANIFEST_NAME)


def version_name(version: int) -> str:
    """Return the name under which a version of the manifest is kept beside the latest."""
    return f"manifest-{version:06d}.json"


def folder_of(url: str) -> str:
    """Return the folder that a manifest's shard paths are relative to."""
    path, query = storage.split_query(manifest_url(url))
    return (path.rpartition("/")[0] or ".") + query


def load_index(folder: str, shard: ShardEntry) -> ShardIndex:
    """Return a shard's index, checked against the hash in the manifest.

    Raises:
        FileNotFoundError: there is none.
        ShardError: it is not the one that the manifest was written with.
    """
    url = storage.join(folder, index_path(shard.path))
    return parse_index(storage.read(url), shard, url)


def parse_index(data: bytes, shard: ShardEntry, url: str) -> ShardIndex:
    """Return the index in ``data``.

    Raises:
        ShardError: it is not the manifest's, or says what cannot be; the message names ``url``.
    """
    if (sha256 := storage.sha256(data)) != shard.index_sha256:
        raise ShardError(f"{url}: sha256 {sha256}, but the manifest says {shard.index_sha256}")
    return check_index(from_json(ShardIndex, data, url), url)


def check_index(index: ShardIndex, url: str) -> ShardIndex:
    """Return an index all of whose members lie within its tar; ShardError if one does not."""
    for pair in index.pairs:
        if abs(pair.alignment_offset) >= pair.samples:
            raise ShardError(
                f"{url}: {pair.key}: alignment_offset {pair.alignment_offset}, expected it within the "
                f"{pair.samples} samples"
            )
        for name, (offset, length, _) in pair.members.items():
            if offset + length > index.tar_bytes:
                raise ShardError(
                    f"{url}: {pair.key}.{name}: {length} bytes at {offset}, but the tar has "
                    f"{index.tar_bytes}"
                )
    return index
