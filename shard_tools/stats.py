"""Show what a manifest holds: durations, ratios, offsets, bandwidths, speakers, refusals."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np

from timbre import shards, storage
from timbre.audio import SAMPLE_RATE
from timbre.command import command, say
from timbre.shards import Manifest, PairMeta

BINS = 8
BAR = 40


def read_metas(manifest_url: str, manifest: Manifest, split: str) -> list[PairMeta]:
    """Return the meta of every pair of a split."""
    folder = shards.folder_of(manifest_url)
    metas = []
    for shard in manifest.splits[split]:
        url = storage.join(folder, shard.path)
        for entry in shards.load_index(folder, shard).pairs:
            offset, length, _ = entry.members[shards.META_MEMBER]
            data = storage.read_range(url, offset, length)
            metas.append(shards.from_json(PairMeta, data, f"{url}: {entry.key}"))
    return metas


def histogram(name: str, values: Sequence[float], unit: str) -> str:
    """Return a plot in text: one line a bin."""
    counts, edges = np.histogram(np.asarray(values), BINS)
    lines = [f"{name} ({unit}): median {np.median(np.asarray(values)):.4g}"]
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        bar = "#" * round(BAR * count / max(counts.max(), 1))
        lines.append(f"  {low:>10.4g} .. {high:<10.4g} {count:>7} {bar}")
    return "\n".join(lines)


def describe(metas: Sequence[PairMeta]) -> str:
    """Return the figures of a split's pairs as text."""
    seconds = [meta.samples / SAMPLE_RATE for meta in metas]
    speakers = Counter(meta.speaker for meta in metas)
    rooms = sum(meta.rir is not None for meta in metas)
    offsets = Counter(meta.alignment_offset for meta in metas)
    common = ", ".join(f"{offset}: {n}" for offset, n in offsets.most_common(5))
    return "\n".join(
        [
            f"pairs {len(metas)}, hours {sum(seconds) / 3600:.3f}, speakers {len(speakers)}, "
            f"in a room {rooms}",
            f"alignment offsets, most common (samples: pairs): {common}",
            histogram("duration", seconds, "s"),
            histogram("SNR", [meta.snr_reached_db for meta in metas], "dB"),
            histogram("bandwidth", [meta.bandwidth_hz / 1000 for meta in metas], "kHz"),
        ]
    )


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Describe ``MANIFEST``."""
    parser = argparse.ArgumentParser("timbre stats", description=__doc__)
    parser.add_argument("manifest", metavar="MANIFEST", help="manifest.json, or its folder")
    url = parser.parse_args(argv).manifest
    manifest = shards.load_manifest(url)
    for split, entries in manifest.splits.items():
        if not entries:
            say(f"== {split}\nno pairs")
            continue
        say(f"== {split}\n{describe(read_metas(url, manifest, split))}")
    say(f"== refused pairs: {json.dumps(manifest.rejected) if manifest.rejected else 'none'}")
    for message in manifest.unusable:
        say(f"unusable: {message}")


if __name__ == "__main__":
    sys.exit(main())
