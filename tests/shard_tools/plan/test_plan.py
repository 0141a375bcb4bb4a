"""What every shard will hold, and who is on which side."""

from collections import Counter

import pytest

from shard_tools.config import PrepConfig
from shard_tools.plan.plan import SPLITS, split_names
from tests.help.made_shards import stored_pairs
from tests.shard_tools.conftest import SmallPrep
from timbre import shards


def test_eight_per_cent_are_for_validation_unless_asked_otherwise() -> None:
    assert PrepConfig("speech", "noise", "output").val_ratio == 0.08
    split_of = split_names([f"speaker {number}" for number in range(3000)], 0.08)
    assert Counter(split_of.values())["val"] / 3000 == pytest.approx(0.08, abs=0.015)


def test_no_speaker_is_on_both_sides(manifest_url: str) -> None:
    manifest = shards.load_manifest(manifest_url)
    speakers = {
        split: {p.meta.speaker for s in entries for p in stored_pairs(manifest_url, s.path)}
        for split, entries in manifest.splits.items()
    }
    assert all(speakers[split] and "" not in speakers[split] for split in SPLITS)
    assert not speakers["train"] & speakers["val"]


def test_where_nobody_is_named_no_recording_is_on_both_sides(small_prep: SmallPrep) -> None:
    plan = small_prep.job.plan
    recordings: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split, number in plan.shards():
        recordings[split] |= {piece.clip.path for piece in plan.shard(split, number)}
    assert all(recordings.values()) and not recordings["train"] & recordings["val"]
    assert all(clip.owner == clip.path for clip in small_prep.edition.usable_clips("speech"))
