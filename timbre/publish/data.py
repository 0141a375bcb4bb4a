"""What a release says of its training data: how much it is, and the licences of its recordings."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from timbre import storage
from timbre.errors import ShardError
from timbre.shards import folder_of, load_manifest, manifest_url

# Beside the manifest: what was made from; a row a recording.
CATALOGUES = "catalogue"
UNKNOWN = "unknown"
HOUR = 3600


class Recordings(NamedTuple):
    """How many recordings have one licence, and how long they are together."""

    files: int
    seconds: float


class TrainingData(NamedTuple):
    """One set of shards that a generator was trained on.

    Attributes:
        name: of its folder, without the way to it.
        sha256: of the manifest.
        seconds: of all training pairs.
        licences: role (speech, noise, rir) -> licence -> the recordings in use; empty where the
            shards have no catalogue.
        speakers: how many are named.
    """

    name: str
    sha256: str
    pairs: int
    seconds: float
    licences: Mapping[str, Mapping[str, Recordings]]
    speakers: int


def describe(url: str) -> TrainingData:
    """Return what is known of the training side of a set of shards.

    Args:
        url: of the manifest, or its folder.

    Raises:
        FileNotFoundError: it is not there (any more).
        ShardError: it, or a catalogue beside it, is damaged.
    """
    manifest, folder = load_manifest(url), folder_of(url)
    shards = manifest.splits.get("train", ())
    licences: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    speakers = set()
    for role, row in _rows(folder):
        licences[role][row.get("licence") or UNKNOWN].append(float(row.get("seconds", 0.0)))
        if role == "speech":
            speakers.add(row.get("speaker"))
    return TrainingData(
        storage.local_path(folder).name if storage.is_local(folder) else folder.rsplit("/", 1)[-1],
        storage.sha256(storage.read(manifest_url(url))),
        sum(shard.pairs for shard in shards),
        sum(shard.seconds for shard in shards),
        {
            role: {name: Recordings(len(times), sum(times)) for name, times in sorted(some.items())}
            for role, some in licences.items()
        },
        len(speakers - {None}),
    )


def _rows(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the role and the row of each recording that training pairs may be made of."""
    for name, url in storage.find_below(storage.join(folder, CATALOGUES)).items():
        if not name.endswith(".jsonl") or "/" in name:
            continue
        role = name.split("-", 1)[0]
        for number, line in enumerate(storage.read(url).splitlines(), 1):
            try:
                row = json.loads(line)
                used = row.get("refused") is None and row.get("split") != "val"
            except (ValueError, AttributeError):
                raise ShardError(f"{url}: line {number}: expected a JSON object") from None
            if used:
                yield role, row
