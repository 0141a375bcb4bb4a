"""Noises split by kind and source."""

import itertools
from dataclasses import replace

import pytest

from shard_tools.plan.kinds import split_kinds
from shard_tools.scan.catalogue import Clip

KINDS = [f"kind {n}" for n in range(24)]
SOURCES = [f"source {n}" for n in range(12)]


def clip(number: int, kind: str | None, source: str | None) -> Clip:
    return Clip(f"{number}.flac", 1, f"{number}", kind=kind, source=source)


def noises() -> list[Clip]:
    pairs = itertools.product(KINDS, SOURCES)
    return [clip(number, *pair) for number, pair in enumerate(pairs)]


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_validation_hears_no_kind_and_no_source_of_training(ratio: float) -> None:
    clips = noises()
    split_of = split_kinds(clips, ratio)
    sides = {side: [c for c in clips if split_of[c.path] == side] for side in ("train", "val")}
    assert sides["train"] and sides["val"]
    for key in ("kind", "source"):
        assert not set.intersection(*({getattr(c, key) for c in side} for side in sides.values()))
    assert len(sides["train"]) > len(sides["val"]) or ratio == 0.5


def test_a_new_kind_and_a_new_source_move_no_other() -> None:
    before = split_kinds(noises(), 0.2)
    more = [*noises(), clip(1000, "kind 99", "source 3"), clip(1001, "kind 3", "source 99")]
    after = split_kinds(more, 0.2)
    assert {path: after[path] for path in before} == before


def test_what_the_manifest_does_not_say_decides_nothing() -> None:
    clips = [clip(n, None, f"source {n % 5}") for n in range(50)]
    split_of = split_kinds(clips, 0.3)
    assert None not in split_of.values()
    assert len({split_of[c.path] for c in clips if c.source == "source 2"}) == 1
    unknown = [clip(n, None, None) for n in range(100)]
    assert {*split_kinds(unknown, 0.3).values()} == {"train", "val"}


def test_a_noise_keeps_the_side_that_its_kind_and_source_had() -> None:
    earlier = [
        replace(clip(1, "rain", "a"), split="val"),
        replace(clip(2, "wind", "b"), split="train"),
    ]
    now = [clip(3, "rain", "a"), clip(4, "wind", "b"), clip(5, "rain", "b")]
    assert list(split_kinds(now, 0.5, earlier).values()) == ["val", "train", None]


def test_where_chance_leaves_validation_none_the_nearest_noise_is_its() -> None:
    # Each kind in one source only: no noise has both by chance at so low a ratio.
    clips = [clip(n, f"kind {n}", f"source {n}") for n in range(9)]
    sides = list(split_kinds(clips, 0.01).values())
    assert sides.count("val") >= 1 and sides.count("train") >= 4
