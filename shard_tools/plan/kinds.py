"""Noises split by what they are and by who collected them, so that validation hears neither before.

A file's neighbours in a collection have its microphone, its codec and often its very sound.
"""

from collections.abc import Sequence

from shard_tools.plan.plan import name_hash, split_names
from shard_tools.scan.catalogue import Clip
from timbre.shards import Split


def split_kinds(
    clips: Sequence[Clip], val_ratio: float, earlier: Sequence[Clip] = ()
) -> dict[str, Split | None]:
    """Return the side of each noise by its path; None where kind and source are on different sides.

    Kinds fall to validation by a hash of their names, and sources likewise; a noise is heard in
    validation where both its kind and its source fall there. Of a noise for which the manifest has
    only one of the two, that one decides; where it has none, the path. Where no noise would be
    validation's, the nearest kind and source are.

    Args:
        clips: the noises.
        val_ratio: the share of kinds, and of sources, that fall to validation.
        earlier: noises that already have a side, which their kinds and sources keep.
    """
    kinds = _sides(clips, earlier, "kind", val_ratio)
    sources = _sides(clips, earlier, "source", val_ratio)
    split_of = {clip.path: _side(clip, kinds, sources) for clip in clips}
    if "val" not in split_of.values() and "train" in split_of.values() and not earlier:
        nearest = min(clips, key=lambda clip: (_distance(clip), clip.path))
        kinds[_name(nearest, "kind")] = sources[_name(nearest, "source")] = "val"
        split_of = {clip.path: _side(clip, kinds, sources) for clip in clips}
    return split_of


def _sides(
    clips: Sequence[Clip], earlier: Sequence[Clip], key: str, val_ratio: float
) -> dict[str, Split]:
    sides_before = {_name(clip, key): clip.split for clip in earlier if clip.split is not None}
    return split_names((_name(clip, key) for clip in clips), val_ratio, sides_before)


def _side(clip: Clip, kinds: dict[str, Split], sources: dict[str, Split]) -> Split | None:
    sides = {kinds[_name(clip, "kind")], sources[_name(clip, "source")]}
    return sides.pop() if len(sides) == 1 else None


def _name(clip: Clip, key: str) -> str:
    """Return what a noise goes by: its kind or source, else the other one, else its path."""
    one, other = (clip.kind, clip.source) if key == "kind" else (clip.source, clip.kind)
    return one or other or clip.path


def _distance(clip: Clip) -> float:
    return max(name_hash(_name(clip, "kind")), name_hash(_name(clip, "source")))
